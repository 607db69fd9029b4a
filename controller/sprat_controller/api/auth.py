"""Who asks, and may they: one dependency for each permission, and every refusal written down.

A bearer is a token or a session; without one, a browser's cookie counts. What a browser sends by
itself, other sites can have it send: a change by cookie must come from our own pages
(`check_site`), and say what only they can know (`CSRF`).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sprat_proto.audit_events import Tag

from sprat_controller.access import sessions, tokens
from sprat_controller.access.actor import Actor, not_allowed
from sprat_controller.access.policy import Permission
from sprat_controller.access.scopes import Scope
from sprat_controller.access.sessions import Kind
from sprat_controller.api.errors import CutOffError
from sprat_controller.api.parts import AllParts, Parts
from sprat_controller.audit import asking
from sprat_controller.errors import DeniedError
from sprat_controller.store.tables import Device

# Of this host, whole, over https alone, whatever other hosts of the domain set (RFC 6265bis).
COOKIE: Final = "__Host-sprat"
CSRF: Final = "x-sprat-csrf"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OPERATOR = HTTPBearer(
    scheme_name="operator",
    description="A token of `sprat tokens create`: sprat_..., or of POST /api/v1/login:"
    " sprat-session.... A browser's session is in a cookie instead, and its changes bear the header"
    f" {CSRF}.",
    auto_error=False,
)
DEVICE = HTTPBearer(
    scheme_name="device",
    description="A device's blob credential, from the conversation: sprat-blob....",
    auto_error=False,
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(OPERATOR)]
DeviceCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(DEVICE)]


def require(permission: Permission) -> Callable[[Request, AllParts, Credentials], Actor]:
    """Return a dependency that lets in who has `permission`."""

    def check(request: Request, parts: AllParts, credentials: Credentials) -> Actor:
        actor = signed_in(request, parts, credentials)
        demand(request, parts, actor, permission)
        return actor

    return check


def require_everywhere(
    permission: Permission,
) -> Callable[[Request, AllParts, Credentials], Actor]:
    """Return a dependency that lets in who has `permission` over all devices there are."""

    def check(request: Request, parts: AllParts, credentials: Credentials) -> Actor:
        actor = require(permission)(request, parts, credentials)
        scope = actor.scope(permission)
        if not scope.is_everything:
            refusal = DeniedError(
                "not_allowed",
                f"{actor.subject} has {permission} over {scope.text} only, and this is about all"
                " devices: ask somebody who has it over everything",
                {"permission": permission.value},
            )
            raise denied(request, parts, actor.audit_name, refusal, parts.clock())
        return actor

    return check


def demand(request: Request, parts: Parts, actor: Actor, permission: Permission) -> None:
    """Let nobody go on who has not the permission: for what only some bodies of a route need."""
    decision = actor.decide(permission)
    if not decision.allowed:
        refusal = not_allowed(permission, decision)
        raise denied(request, parts, actor.audit_name, refusal, parts.clock())
    asking.current().limit(actor.scope(permission))


def signed_in(request: Request, parts: AllParts, credentials: Credentials) -> Actor:
    """Let in who has a token or a session, whatever its role."""
    now = parts.clock()
    actor = Asking(request, parts, credentials).who(now)
    if actor is None:
        raise denied(request, parts, "anonymous", _not_authenticated(), now)
    request.state.actor = actor.audit_name
    asking.current().identify(actor.audit_name, authn=actor.authn, session=actor.session)
    return actor


@dataclass(frozen=True)
class Asking:
    """A request that is being answered, to see again whose it is."""

    request: Request
    parts: Parts
    credentials: HTTPAuthorizationCredentials | None

    def who(self, now: datetime) -> Actor | None:
        """Return who asks; None: nobody who is known at this moment."""
        if self.credentials is not None:
            return _known(self.parts, self.credentials.credentials, now)
        return _by_cookie(self.request, self.parts, now)


def _asking(request: Request, parts: AllParts, credentials: Credentials) -> Asking:
    return Asking(request, parts, credentials)


AskingPart = Annotated[Asking, Depends(_asking)]


def _always(_: Scope) -> bool:
    return True


def while_allowed(
    asking: Asking,
    actor: Actor,
    permission: Permission,
    chunks: Iterable[bytes],
    is_within: Callable[[Scope], bool] = _always,
) -> Iterator[bytes]:
    """Yield an answer that takes long, for as long as who asked is allowed to have it.

    Each chunk is looked at after it was read: none leaves that was read when the right was gone.
    The connection is cut then, so that nobody takes a part for the whole.

    Args:
        asking: What is being answered.
        actor: Who was let in with it.
        permission: By which the chunks are made, over the devices that it was over then.
        chunks: Made page by page.
        is_within: Tells whether what they are of is still in the scope: a device may be moved.

    Raises:
        CutOffError: The token, the session or the right is gone, or is over fewer devices, or
            what is sent is not in its scope any more.
    """
    before = actor.scope(permission)
    for chunk in chunks:
        now = asking.parts.clock()
        by_now = asking.who(now)
        held = None if by_now is None else by_now.held(permission)
        if held is None or not held.contains(before) or not is_within(held):
            refusal = DeniedError(
                "not_allowed",
                f"{actor.subject} may no longer have all of what is being sent: it ends here",
                {"permission": permission.value},
            )
            denied(asking.request, asking.parts, actor.audit_name, refusal, now)
            raise CutOffError(refusal.message)
        yield chunk


def blob_reader(
    request: Request, parts: AllParts, credentials: Credentials, _: DeviceCredentials
) -> None:
    """Let in a device with a blob credential, or who may read blobs."""
    now = parts.clock()
    device_id = parts.blob_credentials.check(credentials.credentials, now) if credentials else None
    if device_id is None:
        require(Permission.READ_BLOBS)(request, parts, credentials)
    elif not _is_ours(parts, device_id):
        refusal = DeniedError("device_removed", f"the device {device_id} was removed")
        raise denied(request, parts, f"device:{device_id}", refusal, now)


def _known(parts: Parts, text: str, now: datetime) -> Actor | None:
    if text.startswith(sessions.PREFIX):
        return sessions.recognise(parts.database, parts.policies, text, Kind.BEARER, now)
    return tokens.recognise(parts.database, parts.policies, text, now)


def _by_cookie(request: Request, parts: Parts, now: datetime) -> Actor | None:
    text = request.cookies.get(COOKIE, "")
    actor = sessions.recognise(parts.database, parts.policies, text, Kind.COOKIE, now)
    if actor is None or request.method in _SAFE:
        return actor
    check_site(request, parts)
    said = request.headers.get(CSRF, "")
    if not hmac.compare_digest(said.encode(), sessions.csrf_of(text).encode()):
        fault = f"expected {CSRF} as login or whoami told it, found another"
        refusal = DeniedError("cross_site", f"{fault}: load the page again")
        raise denied(request, parts, actor.audit_name, refusal, now)
    return actor


def check_site(request: Request, parts: Parts) -> None:
    """Let no page of another site ask; only browsers tell where a request comes from.

    Raises:
        DeniedError: `cross_site`.
    """
    site = request.headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none"):
        refusal = DeniedError(
            "cross_site", f"expected a page of ours, found one that is {site[:20]!r}"
        )
        raise denied(request, parts, "anonymous", refusal, parts.clock())


def csrf_token(request: Request) -> str | None:
    """Return what a page of ours must say with its changes; None: it is not by cookie."""
    by_cookie = "authorization" not in request.headers and COOKIE in request.cookies
    return sessions.csrf_of(request.cookies[COOKIE]) if by_cookie else None


def set_cookie(response: Response, name: str, text: str, age: timedelta) -> None:
    """Have a browser keep a secret that neither scripts nor other sites' requests get."""
    response.set_cookie(
        name,
        text,
        max_age=int(age.total_seconds()),
        path="/",
        secure=True,
        httponly=True,
        samesite="lax",
    )


def source_of(request: Request) -> str:
    """Return the address that a request comes from."""
    return request.client.host if request.client else "unknown"


def _is_ours(parts: Parts, device_id: str) -> bool:
    with parts.database.reading() as session:
        device = session.get(Device, device_id)
        return device is not None and device.revoked_at is None


def denied(
    request: Request, parts: Parts, actor: str, refusal: DeniedError, now: datetime
) -> DeniedError:
    """Write a refusal down, and return it."""
    request.state.written_down = refusal
    parts.denials.record(
        Tag.AUTH_DENIED,
        at=now,
        actor=actor,
        subject=f"route{request.url.path[:256]}",
        detail={"code": refusal.code, "method": request.method, **refusal.details},
    )
    return refusal


def _not_authenticated() -> DeniedError:
    return DeniedError(
        "not_authenticated",
        "expected `Authorization: Bearer` with a token that is neither revoked nor expired, found"
        " none: get one from an administrator (`sprat tokens create`)",
    )
