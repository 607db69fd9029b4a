"""What a device would say: python-tuf's client over metadata that is not published yet.

Nothing is accepted into a repository that this refuses, for a device would refuse it too. The
client gets no network: a fetcher hands it the bytes. Blocking: it writes into a temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.exceptions import VerificationError
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater

from sprat_controller.trust.words import MetadataError

_BASE: Final = "https://dry.run/"


class _Files(FetcherInterface):
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = unquote(urlsplit(url).path.lstrip("/"))
        if name not in self._files:
            raise DownloadHTTPError(f"there is no {name}", 404)
        return iter([self._files[name]])


def dry_run(
    files: Mapping[str, bytes],
    root: bytes,
    *,
    now: datetime,
    cached: Mapping[str, bytes] | None = None,
    paths: Sequence[str] = (),
) -> Mapping[str, TargetFile | None]:
    """Return what a client finds at `paths` after a whole refresh.

    Args:
        files: What is published, by file name: `2.root.json`, `timestamp.json`, ...
        root: The root that the client was made with.
        now: The client's clock.
        cached: What the client has from an earlier refresh, by role: `timestamp.json`, ...
        paths: Targets to look up; each loads the delegated roles on its way.

    Raises:
        MetadataError: The client refuses; its reason is in the sentence.
    """
    with tempfile.TemporaryDirectory(prefix="sprat-dry-run-") as folder:
        for name, data in (cached or {}).items():
            Path(folder, name).write_bytes(data)
        try:
            client = Updater(folder, _BASE, fetcher=_Files(files), bootstrap=root)
            _set_clock(client, now)
            client.refresh()
            return {path: client.get_targetinfo(path) for path in paths}
        except (RepositoryError, DownloadError, VerificationError, ValueError) as error:
            raise MetadataError(
                f"a device would refuse this ({type(error).__name__}): {error}"
            ) from error


def _set_clock(client: Updater, now: datetime) -> None:
    """Let the client judge expiry by `now`; it offers no public way (python-tuf#2359)."""
    trusted = client._trusted_set  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    if not hasattr(trusted, "reference_time"):
        raise AssertionError("python-tuf keeps its reference time elsewhere by now")
    trusted.reference_time = now
