"""Putting the routes together."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Scope

from sprat_controller.api.errors import add_error_handlers, error_answers
from sprat_controller.api.middleware import Envelope
from sprat_controller.api.parts import Parts
from sprat_controller.api.routes import (
    audit,
    blobs,
    bundles,
    channels,
    devices,
    enrolment_tokens,
    fit,
    image,
    models,
    open,  # noqa: A004 - the routes that are open to all
    publishers,
    recurrences,
    rollouts,
    tokens,
    trust,
    users,
)

PREFIX = "/api/v1"


def make_app(parts: Parts, version: str) -> ASGIApp:
    """Return the whole API over `parts`."""
    app = FastAPIOffline(
        title="Sprat controller",
        version=version,
        description="Publishes signed models and rolls them out to a fleet of devices.",
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.parts = parts
    add_error_handlers(app)
    app.include_router(open.router)
    app.include_router(blobs.downloads)
    app.include_router(image.router)
    for router in (
        tokens.router,
        users.router,
        enrolment_tokens.router,
        # Before the devices, whose {device_id} would not match it anyway: the more exact first.
        audit.router,
        devices.router,
        publishers.router,
        trust.router,
        blobs.uploads,
        models.router,
        channels.router,
        rollouts.router,
        recurrences.router,
        fit.router,
        bundles.router,
    ):
        app.include_router(_with_answers(router))
    return Envelope(app, parts.ids.new_id, _is_upload)


def _with_answers(router: APIRouter) -> APIRouter:
    """Put a router below the operators' prefix, where every route may answer these errors."""
    below = APIRouter(prefix=PREFIX, responses=error_answers(401, 403, 422))
    below.include_router(router)
    return below


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "PUT" and scope["path"].startswith(f"{PREFIX}/blobs/sha256/")


def _operation_id(route: APIRoute) -> str:
    return route.name
