"""Blobs by HTTP Range from wherever they are: resumable, every piece verified as it arrives.

The sources are not trusted: what they send is compared with what was signed. Any of the sources
will do; each is asked in turn and what one sent well stays for the next.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sprat_proto.states import ReasonCode

from sprat_agent.registry.blocking import in_thread
from sprat_agent.registry.partial import Blob, PartialFile, size_mismatch
from sprat_agent.sync.ports import ExecutionError, RetryLaterError

if TYPE_CHECKING:
    # Imported when something is fetched: an idle agent does not pay for it.
    import httpx

_CONTENT_RANGE: Final = re.compile(r"bytes (?:([0-9]{1,15})-[0-9]{1,15}|\*)/([0-9]{1,15}|\*)")
_TIMEOUT_S: Final = 30.0
# A source that ends early without an error, this often in a row without a new byte, has no more.
_MAX_EMPTY_ANSWERS: Final = 3


@dataclass(frozen=True)
class Sources:
    """Where blobs are, as the controller's last Welcome said."""

    base_urls: Sequence[str]  # a blob is at <base>/sha256/<hex>
    credential: str  # a bearer
    image_base_urls: Sequence[str] = ()  # metadata of the image repository is at <base>/<name>


class Access:
    """The sources known now; asks for new ones when the credential is refused."""

    def __init__(self) -> None:
        self.sources: Sources | None = None
        self.on_refused: Callable[[], None] = _nothing  # called to get another Welcome

    def grant(self, sources: Sources) -> None:
        """Use these from now on."""
        self.sources = sources


class Fetcher:
    """Fetches blobs over connections that live as long as `opened` does."""

    def __init__(self, access: Access, ca_path: Path) -> None:
        """Fetch with what `access` grants.

        Args:
            access: Where, and with which credential.
            ca_path: Whom to trust to be a source, PEM.
        """
        self._access = access
        self._ca_path = ca_path
        self.received = 0  # bytes, by this process

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Download]:
        """Yield what fetches; its connections close at the end.

        Raises:
            RetryLaterError: The controller did not say yet where blobs are.
        """
        import httpx  # noqa: PLC0415 - an idle agent does not pay for it

        sources = self._access.sources
        if sources is None or not sources.base_urls:
            raise RetryLaterError("the controller has not said yet where blobs are")
        client = httpx.AsyncClient(
            verify=await in_thread(lambda _: ssl.create_default_context(cafile=self._ca_path)),
            timeout=_TIMEOUT_S,
            headers={
                "authorization": f"Bearer {sources.credential}",
                "accept-encoding": "identity",
            },
            trust_env=False,
        )
        async with client:
            yield Download(client, sources.base_urls, self._access, self._count)

    def _count(self, count: int) -> None:
        self.received += count


class Download:
    """Fetches from the sources over open connections."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        base_urls: Sequence[str],
        access: Access,
        on_received: Callable[[int], None],
    ) -> None:
        self._client = client
        self._base_urls = base_urls
        self._access = access
        self._on_received = on_received

    async def fetch(self, blob: Blob, path: Path) -> None:
        """Make `path` hold the whole, verified blob; what it holds already is resumed.

        Raises:
            RetryLaterError: At least one source may have it later; what came is kept.
            ExecutionError: DIGEST_MISMATCH, SIZE_MISMATCH, BLOB_NOT_FOUND, DOWNLOAD_FAILED,
                INSUFFICIENT_DISK.
        """
        partial = await in_thread(lambda stop: PartialFile(blob, path, stop))
        try:
            if not partial.is_whole():
                await self._from_any(blob, partial)
            partial.check_whole()
        finally:
            partial.close()

    async def _from_any(self, blob: Blob, partial: PartialFile) -> None:
        passing: RetryLaterError | None = None
        refusal: ExecutionError | None = None
        for base_url in self._base_urls:
            try:
                await self._from_one(f"{base_url.rstrip('/')}/sha256/{blob.sha256}", blob, partial)
            except RetryLaterError as error:
                passing = error
            except ExecutionError as error:
                if error.code is ReasonCode.INSUFFICIENT_DISK:
                    raise
                refusal = error
            else:
                return
        failure = passing or refusal
        if failure is None:
            raise AssertionError("there is at least one source")
        raise failure

    async def _from_one(self, url: str, blob: Blob, partial: PartialFile) -> None:
        import httpx  # noqa: PLC0415 - loaded already by `opened`

        empty_answers = 0
        while not partial.is_whole():
            before = partial.offset
            try:
                await self._answer(url, blob, partial)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                raise RetryLaterError(
                    f"{blob.name} came up to byte {partial.offset} from {url}:"
                    f" {error or type(error).__name__}"
                ) from error
            empty_answers = empty_answers + 1 if partial.offset == before else 0
            if empty_answers == _MAX_EMPTY_ANSWERS:
                raise size_mismatch(blob, str(partial.offset))

    async def _answer(self, url: str, blob: Blob, partial: PartialFile) -> None:
        """Take what one request brings."""
        wanted = f"bytes={partial.offset}-{blob.size - 1}"
        async with self._client.stream("GET", url, headers={"range": wanted}) as response:
            self._check_status(url, blob, response)
            self._check_range(blob, response, partial)
            # As it comes: what a broken connection brought is kept to the last byte.
            async for chunk in response.aiter_raw():
                await in_thread(lambda _, chunk=chunk: partial.write(chunk))
                self._on_received(len(chunk))

    def _check_status(self, url: str, blob: Blob, response: httpx.Response) -> None:
        status = response.status_code
        if status in {200, 206, 416}:
            return
        if status in {401, 403}:
            self._access.on_refused()
            raise RetryLaterError(f"{url} answered {status}: asking for a new credential")
        if status in {404, 410}:
            raise ExecutionError(
                ReasonCode.BLOB_NOT_FOUND,
                f"{blob.name} is not at {url} ({status}): push the release again",
                expected=f"blob {blob.sha256}",
                found=f"status {status}",
            )
        if status in {408, 425, 429} or status >= 500:  # noqa: PLR2004 - RFC 9110, server errors
            raise RetryLaterError(f"{url} answered {status}")
        raise ExecutionError(
            ReasonCode.DOWNLOAD_FAILED,
            f"{blob.name}: expected {url} to answer 206, found {status}",
            expected="status 206",
            found=f"status {status}",
        )

    def _check_range(self, blob: Blob, response: httpx.Response, partial: PartialFile) -> None:
        """Compare what the source says it has and sends with what was asked for."""
        if response.status_code == 200:  # noqa: PLR2004 - the source does not do ranges
            length = response.headers.get("content-length", "")
            if length.isdecimal() and int(length) != blob.size:
                raise size_mismatch(blob, length)
            partial.restart()
            return
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        start, total = match.groups() if match else (None, None)
        if total is not None and total.isdecimal() and int(total) != blob.size:
            raise size_mismatch(blob, total)
        if start is None or int(start) != partial.offset:
            raise ExecutionError(
                ReasonCode.DOWNLOAD_FAILED,
                f"{blob.name}: asked for bytes from {partial.offset}, and the source answered"
                f" {response.status_code} with {response.headers.get('content-range')!r}",
                expected=f"bytes from {partial.offset}",
                found=str(response.headers.get("content-range")),
            )


def _nothing() -> None:
    """Nobody listens yet."""
