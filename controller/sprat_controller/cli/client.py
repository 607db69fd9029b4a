"""The controller's HTTP API as functions; every way it can fail is a CliError.

A token travels in the Authorization header of an https connection only, and redirects are not
followed.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import httpx
from sprat_proto import canonical
from sprat_proto.trust import IMAGE, Repository, publisher_role

from sprat_controller.cli.exits import CliError, Exit, NotFoundError, UnreachableError
from sprat_controller.cli.settings import Settings, tls
from sprat_controller.publisher.manifests import ReleaseTerms
from sprat_controller.trust.file_names import parse_name

Json: TypeAlias = dict[str, Any]

PREFIX: Final = "/api/v1"
PAGE: Final = 1000
CHUNK: Final = 1 << 20
# Connecting, writing and pool are quick or broken; reading waits for plans of large fleets.
JSON_LINES: Final = "application/x-ndjson"
TEXT_LINES: Final = "text/plain; charset=utf-8"
TIMEOUT: Final = httpx.Timeout(20, read=120)
_STATUSES: Final[Mapping[int, Exit]] = {
    400: Exit.USAGE,
    401: Exit.DENIED,
    403: Exit.DENIED,
    409: Exit.CONFLICT,
    412: Exit.CONFLICT,
    422: Exit.REFUSED,
}


class Api:
    """A connection to one controller."""

    def __init__(self, settings: Settings, transport: httpx.BaseTransport | None = None) -> None:
        self._settings = settings
        self._http = httpx.Client(
            base_url=settings.url,
            headers={"authorization": f"Bearer {settings.token}"} if settings.token else {},
            verify=tls(settings.ca),
            timeout=TIMEOUT,
            transport=transport,
            trust_env=False,
        )

    @property
    def url(self) -> str:
        """The controller's address, https://HOST:PORT."""
        return self._settings.url

    def close(self) -> None:
        """End the connection."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Json:
        """Return the JSON object at `path` (below the API's prefix)."""
        return self._object(self._send("GET", path, params=_given(params or {})))

    def text(self, path: str, params: Mapping[str, Any] | None = None) -> str:
        """Return the text at `path` (below the API's prefix)."""
        return self._send("GET", path, params=_given(params or {})).text

    def lines(
        self, path: str, params: Mapping[str, Any], kind: str = JSON_LINES
    ) -> Iterator[bytes]:
        """Yield the lines at `path` (below the API's prefix) as they come, in any pieces."""
        try:
            with self._http.stream("GET", f"{PREFIX}/{path}", params=_given(params)) as answer:
                if not answer.is_success:
                    answer.read()
                    self._check(answer)
                if answer.headers.get("content-type") != kind:
                    raise self._no_api(answer)
                yield from answer.iter_bytes(CHUNK)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """Post a JSON object and return the answer."""
        return self._object(self._send("POST", path, json=dict(body or {})))

    def ask(self, path: str) -> None:
        """Have something done that has no answer."""
        self._send("POST", path)

    def patch(self, path: str, body: Mapping[str, Any]) -> Json:
        """Change something and return the answer."""
        return self._object(self._send("PATCH", path, json=dict(body)))

    def put(self, path: str) -> Json:
        """Have something be there and return the answer."""
        return self._object(self._send("PUT", path))

    def replace(self, path: str, body: Mapping[str, Any]) -> None:
        """Have something be other than it was."""
        self._send("PUT", path, json=dict(body))

    def delete(self, path: str, params: Mapping[str, Any] | None = None) -> None:
        """Remove something."""
        self._send("DELETE", path, params=dict(params or {}))

    def pages(
        self, path: str, params: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> Iterator[Json]:
        """Yield the items of a list, page by page, at most `limit` of them."""
        asked = dict(params or {})
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            answer = self._send("GET", path, params=_given({**asked, "limit": size}))
            items, following = _page(self._json(answer))
            yield from items if left is None else items[:left]
            if following is None or not items:
                return
            asked["after"] = following
            left = None if left is None else left - len(items)

    def has_blob(self, sha256: str) -> bool:
        """Tell whether the controller has the blob, whole."""
        answer = self._request("HEAD", f"{PREFIX}/blobs/sha256/{sha256}")
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return False
        self._check(answer)
        return True

    def read_blob(self, sha256: str, limit: int) -> Iterator[bytes]:
        """Yield a blob's bytes, at most `limit` of them; whether they are its own, nobody checked.

        Raises:
            CliError: There is no such blob, or it is larger.
        """
        got = 0
        try:
            with self._http.stream("GET", f"/blobs/sha256/{sha256}") as answer:
                if not answer.is_success:
                    answer.read()
                    self._check(answer)
                for chunk in answer.iter_bytes(CHUNK):
                    got += len(chunk)
                    if got > limit:
                        raise CliError(
                            f"expected at most {limit} bytes of the blob {sha256}, found more",
                            Exit.REFUSED,
                        )
                    yield chunk
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def put_file(self, sha256: str, path: Path, sent: Callable[[int], None]) -> None:
        """Upload a file as a blob."""
        size = path.stat().st_size
        self._send(
            "PUT",
            f"blobs/sha256/{sha256}",
            content=_chunks(path, sent),
            headers={"content-length": str(size), "content-type": "application/octet-stream"},
        )

    def put_bytes(self, sha256: str, data: bytes) -> None:
        """Upload a small blob."""
        headers = {"content-type": "application/octet-stream"}
        self._send("PUT", f"blobs/sha256/{sha256}", content=data, headers=headers)

    def metadata_names(self, repository: Repository) -> list[str]:
        """Return the names of the published metadata of a repository."""
        return [str(one["name"]) for one in self.pages(f"trust/{repository}")]

    def metadata(self, repository: Repository, name: str) -> bytes:
        """Return one published file of a repository."""
        return self._send("GET", f"trust/{repository}/{name}").content

    def role_metadata(self, publisher: str) -> bytes | None:
        """Return the newest metadata of a publisher's role; None: there is none yet."""
        role = publisher_role(publisher)
        parsed = [parse_name(name) for name in self.metadata_names(IMAGE)]
        versions = [one.version for one in parsed if one is not None and one.role == role]
        return self.metadata(IMAGE, f"{max(versions)}.{role}.json") if versions else None

    def publish(self, release: ReleaseTerms, metadata: str) -> None:
        """Announce a release by the digest of the uploaded next metadata of its publisher."""
        body = {"release": release.release, "publisher": release.publisher, "metadata": metadata}
        # A controller of before does not know it: it is only told where there is something to tell.
        body |= {"unproven": release.unproven} if release.unproven else {}
        self.post(f"models/{release.model}/releases", body)

    def publish_metadata(self, repository: Repository, files: Mapping[str, bytes]) -> None:
        """Upload signed metadata and have it published, all of it or nothing."""
        digests = {name: canonical.sha256_hex(data) for name, data in files.items()}
        for name, data in files.items():
            self.put_bytes(digests[name], data)
        self.post(f"trust/{repository}", {"files": digests})

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        answer = self._request(method, f"{PREFIX}/{path}", **request)
        self._check(answer)
        return answer

    def _request(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.HTTPError) -> CliError:
        url = self._settings.url
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
            ca = self._settings.ca or "the system's authorities"
            return CliError(
                f"{url} shows a certificate that {ca} does not vouch for: give the controller's"
                f" ca.pem with --ca or SPRAT_CA ({_sentence(error)})"
            )
        if isinstance(error, httpx.TimeoutException):
            return UnreachableError(f"the controller at {url} did not answer in time: try again")
        return UnreachableError(
            f"the controller at {url} cannot be reached ({_sentence(error)}): is it running there?"
        )

    def _check(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        try:
            error: Any = answer.json()["error"]
            text, code = str(error["message"]), str(error["code"])
            details: Any = error.get("details") or {}
            check = details.get("check")
        except (ValueError, KeyError, TypeError, AttributeError):
            text, code = f"{self._settings.url} answered {answer.status_code}", "no reason given"
            check = None
        status = _STATUSES.get(answer.status_code, Exit.ERROR)
        if code == "invalid_request":
            status = Exit.USAGE
        request = answer.headers.get("x-request-id")
        kind = NotFoundError if answer.status_code == HTTPStatus.NOT_FOUND else CliError
        told = f"{text} ({code}{f', request {request}' if request else ''})"
        raise kind(told, status, check=check)

    def _object(self, answer: httpx.Response) -> Json:
        if answer.status_code == HTTPStatus.NO_CONTENT:
            return {}
        value = self._json(answer)
        if not isinstance(value, dict):
            raise self._no_api(answer)
        return cast("Json", value)

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            raise self._no_api(answer) from error

    def _no_api(self, answer: httpx.Response) -> CliError:
        return CliError(
            f"{answer.request.url} answered something that is not the controller's API: check --url"
        )


def _page(value: Any) -> tuple[list[Json], Any]:
    """Return a page's items and the cursor of the next; a bare list is one page."""
    page = cast("Json", value) if isinstance(value, dict) else {"items": value}
    items: Any = page.get("items")
    listed = cast("list[object]", items) if isinstance(items, list) else [None]
    if not all(isinstance(item, dict) for item in listed):
        raise CliError("expected a list from the controller, found another answer: check --url")
    return cast("list[Json]", listed), page.get("next")


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}


def _chunks(path: Path, sent: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
            done += len(chunk)
            sent(done)


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
