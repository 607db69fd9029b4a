"""What would change the models of this device: refused, with who manages it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sprat_agent.api.faults import ApiError


def routes(status: Callable[[], Mapping[str, object]]) -> list[BaseRoute]:
    """Return the endpoints; `status` is what the device says of itself."""

    async def refuse(request: Request) -> Response:
        path = str(request.scope["path"])[:100]
        message = (
            f"{request.method} {path} is refused: which models are on this device"
            f" is decided by its fleet, at {_manager(status())}"
        )
        raise ApiError(403, "managed_by_fleet", message)

    posted = ("pull", "push", "create", "copy")
    return [
        *(Route(f"/api/{name}", refuse, methods=["POST"]) for name in posted),
        Route("/api/delete", refuse, methods=["DELETE"]),
        Route("/api/blobs/{digest:path}", refuse, methods=["GET", "HEAD", "POST"]),
    ]


def _manager(status: Mapping[str, object]) -> str:
    controller = status.get("controller")
    url = cast("Mapping[str, Any]", controller).get("url") if controller else None
    return str(url or "its controller")
