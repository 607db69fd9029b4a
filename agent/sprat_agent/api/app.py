"""The routes of the local API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sprat_agent.api import replies
from sprat_agent.api.account import Account, Nobody
from sprat_agent.api.answering import Answering
from sprat_agent.api.anthropic import errors as anthropic_errors
from sprat_agent.api.anthropic.messages import routes as anthropic_routes
from sprat_agent.api.device import ReadDevice
from sprat_agent.api.dialect import ErrorShape, Json
from sprat_agent.api.events import ModelEvents
from sprat_agent.api.faults import ApiError
from sprat_agent.api.guard import Guard
from sprat_agent.api.metrics import Metrics
from sprat_agent.api.models import Models
from sprat_agent.api.network import Network
from sprat_agent.api.ollama import errors as ollama_errors
from sprat_agent.api.ollama.routes import routes as ollama_routes
from sprat_agent.api.openai import errors as openai_errors
from sprat_agent.api.openai.routes import routes as openai_routes
from sprat_agent.api.recorder import Recorded, Recorder
from sprat_agent.clock import Clock
from sprat_agent.runtime.served import Status
from sprat_agent.sync.ports import Loadable

_LOG = logging.getLogger(__name__)
# The shape of errors below a path: the first that fits.
_ERROR_SHAPES: Final[tuple[tuple[str, ErrorShape], ...]] = (
    ("/api/", ollama_errors.shape),
    ("/v1/messages", anthropic_errors.shape),
    ("", openai_errors.shape),
)


def build_app(
    models: Models,
    *,
    clock: Clock,
    new_id: Callable[[], str],
    is_simulated: bool,
    status: Callable[[], Mapping[str, object]],
    network: Network | None = None,
    read_device: ReadDevice | None = None,
    account: Account | None = None,
) -> ASGIApp:
    """Return the ASGI application.

    Args:
        models: What answers.
        clock: For the time of completions.
        new_id: For their ids.
        is_simulated: The device's profile was declared, not measured: said wherever it shows.
        status: What else GET /agent/v1/status tells: fields of the device besides `models`.
        network: What is asked of requests from beyond loopback.
        read_device: Figures of the device for GET /metrics; None: it tells of models alone.
        account: Takes what was asked, and by whom, to the journal; None: nobody does.
    """
    recorder = Recorder()
    account = account or Nobody()
    models = Recorded(models, recorder, account)
    device = _Device(models, is_simulated=is_simulated, status=status)
    answering = Answering(models, clock=clock, new_id=new_id)
    app = Starlette(
        routes=[
            *openai_routes(models, answering, int(clock().timestamp())),
            *anthropic_routes(models, answering),
            *ollama_routes(models, answering, clock, status),
            Route("/livez", device.livez),
            Route("/readyz", device.readyz),
            Route("/metrics", Metrics(models, recorder, read_device).scrape),
            Route("/agent/v1/status", device.status),
            Route("/agent/v1/events", ModelEvents(models, _alias_entry), methods=["GET"]),
        ],
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    return Guard(app, _respond, network, account.accessed)


class _Device:
    """The endpoints that only look."""

    def __init__(
        self,
        models: Models,
        *,
        is_simulated: bool,
        status: Callable[[], Mapping[str, object]],
    ) -> None:
        self._models = models
        self._is_simulated = is_simulated
        self._status = status

    async def livez(self, _request: Request) -> Response:
        """GET /livez: this process answers."""
        return JSONResponse({"live": True})

    async def readyz(self, _request: Request) -> Response:
        """GET /readyz: every committed alias can answer; the controller may be away."""
        faulty = [one for one in self._models.statuses() if one.committed and not one.can_answer]
        body = {
            "ready": not faulty,
            "reasons": [{"alias": one.alias, "message": one.reason} for one in faulty],
        }
        return JSONResponse(body, 503 if faulty else 200)

    async def status(self, _request: Request) -> Response:
        """GET /agent/v1/status: what runs here and why."""
        entries = [_alias_entry(one) for one in self._models.statuses()]
        return JSONResponse({**self._status(), "simulated": self._is_simulated, "models": entries})


def _alias_entry(status: Status) -> Json:
    """Return one alias of the device's status."""
    return {
        "alias": status.alias,
        **(_variant(status.committed) or {}),
        "state": status.condition.value,
        "can_answer": status.can_answer,
        "reason": status.reason or None,
        "queued": status.queued,
        "worker_pid": status.worker_pid,
        "candidate": _variant(status.candidate),
        "serving": _serving(status),
    }


def _serving(status: Status) -> Json | None:
    """Return how the committed model is served; slots are what it has now, 0 out of memory."""
    if status.committed is None:
        return None
    serving = status.committed.serving
    return {"slots": status.slots, "kv_type": serving.kv_type, "pinned": serving.is_pinned}


def _variant(one: Loadable | None) -> Json | None:
    if one is None:
        return None
    return {
        "model": one.model,
        "release": one.release,
        "variant": one.variant,
        "digest": one.digest,
        "signer": one.signer,
        "adapters": list(one.adapter_names),
    }


def _respond(path: str, fault: ApiError) -> Response:
    """Return an error in the shape of the dialect that a path belongs to."""
    shape = next(shape for below, shape in _ERROR_SHAPES if path.startswith(below))
    return replies.error(fault, shape)


async def _api_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return _respond(_path(request), error)


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path, or the wrong method for it."""
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = f"{request.method} {_path(request)[:100]} is nothing here: {error.detail}"
    code = codes.get(error.status_code, "invalid_request")
    response = _respond(_path(request), ApiError(error.status_code, code, message))
    response.headers.update(error.headers or {})  # of 405: Allow
    return response


async def _unexpected(request: Request, error: Exception) -> Response:
    """A bug of ours: on record here, one sentence there."""
    _LOG.error("%s %s failed", request.method, _path(request), exc_info=error)
    message = "the agent failed at this request; its log says why"
    fault = ApiError(500, "internal_error", message, kind="server_error")
    return _respond(_path(request), fault)


def _path(request: Request) -> str:
    """Return the path; `request.url` is made of the header Host, which may be anything."""
    return str(request.scope["path"])
