"""A folder for the moment in which metadata is verified: in memory, or on the disk.

It holds nothing secret and nothing that must survive. In memory a look takes two thirds of the time
(ext4; 8 ms instead of 12), and less of a flash card's life. Others may fill up the memory's folder,
or the disk; what is installed is proved anew at each load, and neither must take away the model
that answers.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# More than all metadata of a look, see `sprat_proto.trust`.
_ROOM_BYTES: Final = 16 << 20
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - 0700 within it
_ELSEWHERE: Final = Path(tempfile.gettempdir())


@contextmanager
def scratch_folder(
    place: Path, memory: Path = _MEMORY, elsewhere: Path = _ELSEWHERE
) -> Generator[Path]:
    """Yield an empty folder, for nobody else to read, that is gone afterwards.

    Args:
        place: Where it is if `memory` has no room.
        memory: Where it is if there is room.
        elsewhere: Where it is if neither has room; if nothing has, it is in `place`.
    """
    place.mkdir(parents=True, exist_ok=True)
    fit = (one for one in (memory, place, elsewhere) if _is_fit(one))
    with tempfile.TemporaryDirectory(dir=next(fit, place), prefix=_prefix(place)) as name:
        yield Path(name)


def clear_scratch(place: Path, memory: Path = _MEMORY) -> None:
    """Remove what an end by force left behind; nobody may be in a scratch folder of `place`."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    for left in memory.glob(f"{_prefix(place)}*"):
        # Of somebody else's it removes nothing: the folder is sticky.
        shutil.rmtree(left, ignore_errors=True)


def _prefix(place: Path) -> str:
    """Return how the names begin: another agent on this machine has other ones."""
    of = place.parent.stat()
    return f"sprat-{of.st_dev:x}-{of.st_ino:x}-"


def _is_fit(folder: Path) -> bool:
    """Tell whether there is room, and nobody else can put another folder in the place of ours."""
    try:
        mode = folder.stat().st_mode
        is_safe = bool(mode & stat.S_ISVTX) or not mode & (stat.S_IWGRP | stat.S_IWOTH)
        has_room = shutil.disk_usage(folder).free >= _ROOM_BYTES
        return is_safe and has_room and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False
