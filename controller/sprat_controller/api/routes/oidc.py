"""Signing in at an OpenID provider: with a browser, by a code that is typed elsewhere, and out."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request, Response, status
from fastapi.responses import RedirectResponse

from sprat_controller.access.oidc import browser, device, logout
from sprat_controller.access.oidc.browser import MAX_NEXT, Returned
from sprat_controller.access.oidc.desk import Coming, Desk
from sprat_controller.access.oidc.tokens.signed import MAX_LENGTH
from sprat_controller.access.sessions import Kind
from sprat_controller.api import sign_in_schema as schema
from sprat_controller.api.auth import COOKIE, check_site, set_cookie, source_of
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import AllParts, Parts
from sprat_controller.errors import NotFoundError, RequestError

router = APIRouter(tags=["sessions"], prefix="/oidc")
# What a browser keeps between being sent to the provider and coming back.
SENT: Final = "__Host-sprat-oidc"
_START: Final = "/docs"
_FOUND: Final = status.HTTP_302_FOUND
_SENT_ON: Final = {_FOUND: {"description": "Where the browser goes next"}}
_FORM: Final = "application/x-www-form-urlencoded"
_LOGOUT: Final = {
    "type": "object",
    "properties": {"logout_token": {"type": "string", "maxLength": MAX_LENGTH}},
    "required": ["logout_token"],
}
_Word = Annotated[str, Query(max_length=256)]


@router.get(
    "/begin",
    status_code=_FOUND,
    response_class=Response,
    responses={**_SENT_ON, **error_answers(400, 404, 429, 502, 503)},
)
def begin_oidc(
    request: Request,
    parts: AllParts,
    next_path: Annotated[
        str, Query(alias="next", max_length=MAX_NEXT, description="Where to, then: a path of ours")
    ] = _START,
) -> Response:
    """Send a browser to the provider."""
    now, desk = parts.clock(), _desk(parts)
    parts.gates.login.enter(source_of(request), now)
    sent = browser.begin(desk, next_path, now)
    answer = RedirectResponse(sent.url, _FOUND)
    set_cookie(answer, SENT, sent.secret, browser.LIFETIME)
    return answer


@router.get(
    "/callback",
    status_code=_FOUND,
    response_class=Response,
    responses={**_SENT_ON, **error_answers(400, 404, 409, 429, 502, 503)},
)
def come_back_from_oidc(
    request: Request,
    parts: AllParts,
    *,
    state: _Word = "",
    code: Annotated[str, Query(max_length=4096)] = "",
    error: _Word = "",
    iss: Annotated[str, Query(max_length=2048)] = "",
) -> Response:
    """Take a browser back from the provider, and begin its session."""
    now, source, desk = parts.clock(), source_of(request), _desk(parts)
    returned = Returned(state, code, error, iss, request.cookies.get(SENT, ""))
    try:
        came_in = browser.come_back(desk, returned, Coming(Kind.COOKIE, source, now))
    except RequestError:
        # Whoever was sent there was counted already.
        parts.gates.login.enter(source, now)
        raise
    answer = RedirectResponse(came_in.next_path, _FOUND)
    set_cookie(answer, COOKIE, came_in.secret, came_in.session.expires_at - now)
    answer.delete_cookie(SENT, path="/", secure=True, httponly=True, samesite="lax")
    return answer


@router.post("/device", responses=error_answers(404, 429, 502, 503))
def begin_oidc_device(request: Request, parts: AllParts) -> schema.DeviceSignIn:
    """Begin a sign-in by a code that is typed in a browser anywhere."""
    check_site(request, parts)
    now, desk = parts.clock(), _desk(parts)
    parts.gates.login.enter(source_of(request), now)
    begun = device.begin(desk, now)
    return schema.DeviceSignIn(
        handle=begun.handle,
        user_code=begun.user_code,
        verification_uri=begun.verification_uri,
        verification_uri_complete=begun.verification_uri_complete,
        expires_at=begun.expires_at,
        interval_s=begun.interval_s,
    )


@router.post("/device/token", responses=error_answers(400, 404, 409, 413, 429, 502, 503))
def ask_oidc_device(
    body: schema.DeviceAsk, request: Request, parts: AllParts
) -> schema.DeviceAnswer:
    """Ask whether somebody has typed the code by now, and begin their session if so."""
    check_site(request, parts)
    now, source, desk = parts.clock(), source_of(request), _desk(parts)
    if not device.is_known(desk, body.handle):
        parts.gates.login.enter(source, now)
    found = device.ask(desk, body.handle, Coming(Kind.BEARER, source, now))
    if isinstance(found, device.Waiting):
        return schema.DeviceAnswer(interval_s=found.interval_s, login=None)
    row, text = found
    login = schema.Login(
        id=row.id, subject=row.subject_id, expires_at=row.expires_at, token=text, csrf=None
    )
    return schema.DeviceAnswer(interval_s=None, login=login)


async def _logout_token(request: Request) -> str:
    """Return what a provider tells, in the form that it must (Back-Channel Logout 1.0 §2.5)."""
    body = (await request.body()).decode("latin-1")
    found = parse_qs(body, keep_blank_values=True).get("logout_token", [])
    if len(found) != 1 or len(found[0]) > MAX_LENGTH:
        raise RequestError(
            "logout_refused",
            "expected one logout_token of at most 64 KiB in a form, found another body",
        )
    return found[0]


@router.post(
    "/backchannel-logout",
    responses=error_answers(400, 404, 413, 429, 502, 503),
    openapi_extra={"requestBody": {"content": {_FORM: {"schema": _LOGOUT}}, "required": True}},
)
def backchannel_logout(
    logout_token: Annotated[str, Depends(_logout_token)], request: Request, parts: AllParts
) -> schema.SignedOut:
    """End the sessions of who signed out at the provider: it calls this itself."""
    now, source, desk = parts.clock(), source_of(request), _desk(parts)
    try:
        ended = logout.sign_out(desk, logout_token, source, now)
    except RequestError:
        # Whoever shows none of the provider's: the provider itself is never kept waiting.
        parts.gates.login.enter(source, now)
        raise
    return schema.SignedOut(sessions=ended)


def _desk(parts: Parts) -> Desk:
    if parts.oidc is None:
        raise NotFoundError(
            "no_single_sign_on",
            "this controller has no single sign-on: sign in with a password or a token, or run it"
            " with --oidc",
        )
    return Desk(parts.oidc, parts.database, parts.denials, parts.ids.new_id, parts.ids.new_secret)
