"""Putting the routes together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Scope

from sprat_controller.api import security_headers, text
from sprat_controller.api.errors import add_error_handlers, error_answers
from sprat_controller.api.middleware import Envelope
from sprat_controller.api.parts import PARTS, Parts
from sprat_controller.api.routes import (
    audit,
    audit_keeping,
    audit_proofs,
    blobs,
    bundles,
    channels,
    devices,
    enrolment_tokens,
    fit,
    image,
    models,
    oidc,
    open,  # noqa: A004 - the routes that are open to all
    publishers,
    recurrences,
    reports,
    rollouts,
    sign_in,
    tokens,
    trust,
    users,
)

PREFIX = "/api/v1"
DOCS = "/docs"
_STATIC = "/static-offline-docs"  # where fastapi_offline serves what the page loads


class _Routes(NamedTuple):
    """All there is to call, over whichever parts a request brings along."""

    app: FastAPI
    pages: Mapping[str, Mapping[str, str]]  # the headers of what is a page, by path


def make_app(parts: Parts, version: str) -> ASGIApp:
    """Return the whole API over `parts`."""
    routes = _routes(version)
    return Envelope(routes.app, parts.ids.new_id, _is_upload, routes.pages, {PARTS: parts})


@cache
def _routes(version: str) -> _Routes:
    """Put the routes together: half a second, and the same whatever the parts are."""
    app = FastAPIOffline(
        title="Sprat controller",
        version=version,
        description="Publishes signed models and rolls them out to a fleet of devices.",
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(text.check_address)],
    )
    add_error_handlers(app)
    app.include_router(open.router)
    app.include_router(blobs.downloads)
    app.include_router(image.router)
    for router in (
        sign_in.router,
        oidc.router,
        tokens.router,
        users.router,
        enrolment_tokens.router,
        # Before the devices, whose {device_id} would not match it anyway: the more exact first.
        audit.router,
        audit_proofs.router,
        audit_proofs.of_devices,
        audit_keeping.router,
        reports.router,
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
    return _Routes(app, {DOCS: security_headers.of_page(_add_docs(app))})


def _add_docs(app: FastAPI) -> str:
    """Serve the page that shows the API, made once so that its script's hash holds; return it."""
    made = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{app.title} - Swagger UI",
        oauth2_redirect_url=None,
        swagger_js_url=f"{_STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{_STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{_STATIC}/favicon.png",
    )
    page = bytes(made.body).decode()

    @app.get(DOCS, include_in_schema=False)
    async def docs() -> HTMLResponse:  # pyright: ignore[reportUnusedFunction] - it is a route
        return HTMLResponse(page)

    return page


def _with_answers(router: APIRouter) -> APIRouter:
    """Put a router below the operators' prefix, where every route may answer these errors."""
    below = APIRouter(prefix=PREFIX, responses=error_answers(401, 403, 422))
    below.include_router(router)
    return below


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "PUT" and scope["path"].startswith(f"{PREFIX}/blobs/sha256/")


def _operation_id(route: APIRoute) -> str:
    return route.name
