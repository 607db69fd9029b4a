"""Who asks, and may they: one dependency for each permission, and every refusal written down."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sprat_proto.audit_events import Tag

from sprat_controller.access import tokens
from sprat_controller.access.policy import Actor, Permission, allowed, roles_with
from sprat_controller.api.parts import AllParts, Parts
from sprat_controller.errors import DeniedError
from sprat_controller.store.tables import Device

OPERATOR = HTTPBearer(
    scheme_name="operator",
    description="A token of `sprat tokens create`: sprat_...",
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


def demand(request: Request, parts: Parts, actor: Actor, permission: Permission) -> None:
    """Let nobody go on who has not the permission: for what only some bodies of a route need."""
    if not allowed(actor, permission):
        now = parts.clock()
        raise _denied(request, parts, actor.audit_name, _not_allowed(actor, permission), now)


def signed_in(request: Request, parts: AllParts, credentials: Credentials) -> Actor:
    """Let in who has a token, whatever its role."""
    now = parts.clock()
    actor = tokens.recognise(parts.database, credentials.credentials, now) if credentials else None
    if actor is None:
        raise _denied(request, parts, "anonymous", _not_authenticated(), now)
    return actor


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
        raise _denied(request, parts, f"device:{device_id}", refusal, now)


def _is_ours(parts: Parts, device_id: str) -> bool:
    with parts.database.reading() as session:
        device = session.get(Device, device_id)
        return device is not None and device.revoked_at is None


def _denied(
    request: Request, parts: Parts, actor: str, refusal: DeniedError, now: datetime
) -> DeniedError:
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


def _not_allowed(actor: Actor, permission: Permission) -> DeniedError:
    roles = " or ".join(roles_with(permission))
    return DeniedError(
        "not_allowed",
        f"{actor.name} has the role {actor.role}, which does not allow {permission}: ask for a"
        f" token with the role {roles}",
        {"permission": permission.value, "role": actor.role.value},
    )
