"""A folder for the moment in which metadata is verified: on the disk, or in memory if that is full.

What is installed is proved anew at each load; a disk that somebody else filled must not take away
the model that answers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# More than all metadata of a look, see `sprat_proto.trust`.
_ROOM_BYTES: Final = 16 << 20
_MEMORY: Final = (Path("/dev/shm"), Path(tempfile.gettempdir()))  # noqa: S108 - 0700 within it


@contextmanager
def scratch_folder(place: Path, otherwise: Sequence[Path] = _MEMORY) -> Generator[Path]:
    """Yield an empty folder that is gone afterwards.

    Args:
        place: Where it is, if there is room.
        otherwise: Where else it may be then, in order; if there is no room anywhere, in `place`.
    """
    place.mkdir(parents=True, exist_ok=True)
    roomy = (one for one in (place, *otherwise) if _has_room(one))
    with tempfile.TemporaryDirectory(dir=next(roomy, place), prefix="sprat-") as name:
        yield Path(name)


def _has_room(folder: Path) -> bool:
    try:
        return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= _ROOM_BYTES
    except OSError:
        return False
