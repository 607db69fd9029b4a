"""Where metadata comes from: a message or rows in memory, or HTTPS. Blocking.

No source is trusted. What any of them says is verified by `tuf_client`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    # Imported when something is fetched: an idle agent does not pay for it.
    import httpx

_NOT_THERE: Final = frozenset({403, 404, 410})


class SourceError(Exception):
    """It cannot be had now."""


class NotThereError(SourceError):
    """The source says that it has no such file."""


class Source(Protocol):
    """Files by name, as the image repository serves them: `3.root.json`, `timestamp.json`."""

    def read(self, name: str) -> Iterator[bytes]:
        """Return the content, in pieces; its end is not the reader's to trust.

        Raises:
            NotThereError: At once.
            SourceError: At once, or while it is read.
        """
        ...


class MemorySource:
    """What came in one message, or is kept in rows."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read(self, name: str) -> Iterator[bytes]:
        """Return the content; see `Source`."""
        data = self._files.get(name)
        if data is None:
            raise NotThereError(f"{name} is not among what came")
        return iter((data,))


class HttpSource:
    """Several places that hold the same files; each is asked in turn."""

    def __init__(
        self,
        client: httpx.Client,
        base_urls: Sequence[str],
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask at `<base>/<name>`; `on_refused` is told when the credential is not accepted."""
        self._client = client
        self._base_urls = base_urls
        self._on_refused = on_refused

    def read(self, name: str) -> Iterator[bytes]:
        """Return the content; see `Source`."""
        missing: NotThereError | None = None
        failure = SourceError("the controller has not said yet where metadata is")
        for base_url in self._base_urls:
            try:
                return self._open(f"{base_url.rstrip('/')}/{name}")
            except NotThereError as error:
                missing = error
            except SourceError as error:
                failure = error
        # One that is away must not keep a chain of roots from ending.
        raise missing or failure

    def _open(self, url: str) -> Iterator[bytes]:
        """Open at once: what a generator raises later is for its reader only."""
        import httpx  # noqa: PLC0415 - loaded already by whoever made the client

        try:
            response = self._client.send(self._client.build_request("GET", url), stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise SourceError(f"{url}: {error or type(error).__name__}") from error
        if response.status_code == 200:  # noqa: PLR2004 - RFC 9110
            return _chunks(url, response)
        response.close()
        if response.status_code == 401:  # noqa: PLR2004 - RFC 9110
            self._on_refused()
        if response.status_code in _NOT_THERE:
            raise NotThereError(f"{url} answered {response.status_code}")
        raise SourceError(f"{url} answered {response.status_code}")


def _chunks(url: str, response: httpx.Response) -> Iterator[bytes]:
    import httpx  # noqa: PLC0415 - loaded already

    try:
        yield from response.iter_bytes()
    except (httpx.HTTPError, OSError) as error:
        raise SourceError(f"{url}: {error or type(error).__name__}") from error
    finally:
        response.close()
