"""The image repository over HTTPS, where the controller's last Welcome said that it is."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from sprat_agent.registry.blocking import in_thread
from sprat_agent.registry.fetch import Access
from sprat_agent.registry.source import HttpSource, Source, SourceError

T = TypeVar("T")

_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Sources:
    """The two places: metadata by name, and blobs as `sha256/<hex>`."""

    metadata: Source
    blobs: Source


class Remote(Protocol):
    """Where the image repository is; the tests' world is the other."""

    @contextmanager
    def opened(self) -> Generator[Sources]:
        """Yield the sources, in a thread that may block.

        Raises:
            SourceError: It is not known yet where they are.
        """
        ...

    async def ask(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, run in a thread in which `opened` may be used."""
        ...


class HttpRemote:
    """A `Remote` over HTTPS."""

    def __init__(self, access: Access, ca_path: Path) -> None:
        """Ask where `access` says.

        Args:
            access: Where, and with which credential.
            ca_path: Whom to trust to be a source, PEM.
        """
        self._access = access
        self._ca_path = ca_path
        self._was_refused = False

    @contextmanager
    def opened(self) -> Generator[Sources]:
        """Yield the sources; see `Remote`."""
        import httpx  # noqa: PLC0415 - an idle agent does not pay for it

        granted = self._access.sources
        if granted is None or not granted.image_base_urls:
            raise SourceError("the controller has not said yet where the image repository is")
        with httpx.Client(
            verify=ssl.create_default_context(cafile=self._ca_path),
            timeout=_TIMEOUT_S,
            headers={"authorization": f"Bearer {granted.credential}"},
            trust_env=False,
        ) as client:
            yield Sources(
                HttpSource(client, granted.image_base_urls, self._refused),
                HttpSource(client, granted.base_urls, self._refused),
            )

    async def ask(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; see `Remote`."""
        try:
            return await in_thread(lambda _: work())
        finally:
            if self._was_refused:
                self._was_refused = False
                self._access.on_refused()

    def _refused(self) -> None:
        self._was_refused = True
