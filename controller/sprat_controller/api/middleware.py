"""Around every request: an id, a bound on the body, headers for browsers, a log line for bugs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sprat_controller.api import security_headers
from sprat_controller.api.errors import CutOffError
from sprat_controller.audit import asking

# A rollout to 10,000 devices by name is 0.7 MB.
MAX_BODY_BYTES: Final = 4 << 20
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PRIVATE: Final = "/api/"  # what only who asked may see
_log = logging.getLogger(__name__)


class Envelope:
    """Wraps the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        new_id: Callable[[], str],
        unbounded: Callable[[Scope], bool],
        pages: Mapping[str, Mapping[str, str]],
        state: Mapping[str, object],
    ) -> None:
        """Wrap `app`.

        Args:
            app: The application.
            new_id: Makes the id of a request that brings none.
            unbounded: Tells requests whose body may be large: uploads, which are streamed.
            pages: The headers of what is a page, by path.
            state: What the state of every request begins with.
        """
        self._app = app
        self._new_id = new_id
        self._unbounded = unbounded
        self._pages = pages
        self._state = state
        self._data = security_headers.of_data()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else self._new_id()
        scope.setdefault("state", {}).update(self._state, request_id=request_id)
        is_whole = False

        async def send_with_id(message: Message) -> None:
            nonlocal is_whole
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers.update(self._pages.get(scope["path"], self._data))
                if scope["path"].startswith(_PRIVATE):
                    headers.setdefault("cache-control", "no-store")
            is_whole = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        bounded = receive if self._unbounded(scope) else _Bounded(receive)
        try:
            with asking.begin(request_id):
                await self._app(scope, bounded, send_with_id)
        except CutOffError as error:
            # Not completed: the server cuts the connection, so that a part is not taken for all.
            _log.info("request %s: %s %s: %s", request_id, scope["method"], scope["path"], error)
        except Exception:
            # The answer, if none had begun, is that of `errors`; Starlette raises it here as well.
            _log.exception("request %s: %s %s", request_id, scope["method"], scope["path"])
            if not is_whole:
                raise  # the connection is cut, so that nobody takes half an answer for a whole one


class _Bounded:
    """A receive that stops at `MAX_BODY_BYTES`."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > MAX_BODY_BYTES:
            raise HTTPException(
                413,
                f"expected a body of at most {MAX_BODY_BYTES} bytes, found more",
                headers={"connection": "close"},
            )
        return message
