"""Who may do what: one table. Pure.

A role has what its row says and nothing that follows from another row: a publisher's CI cannot see
the fleet, an operator cannot publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a token is for."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    PUBLISHER = "publisher"
    ADMIN = "admin"


class Permission(StrEnum):
    """What can be allowed."""

    READ_FLEET = "fleet:read"
    CHANGE_FLEET = "fleet:change"
    ENROL = "device:enrol"
    READ_MODELS = "models:read"
    READ_BLOBS = "blobs:read"
    PUBLISH = "release:publish"
    CHANGE_CHANNELS = "channels:change"
    MANAGE_TRUST = "trust:manage"
    READ_ROLLOUTS = "rollouts:read"
    ROLL_OUT = "rollouts:change"
    APPROVE = "rollouts:approve"
    OVERRIDE = "rollouts:override"  # windows, budgets and pace, in an emergency
    READ_AUDIT = "audit:read"
    MANAGE_TOKENS = "tokens:manage"


_VIEW: Final = frozenset(
    {
        Permission.READ_FLEET,
        Permission.READ_MODELS,
        Permission.READ_ROLLOUTS,
        Permission.READ_AUDIT,
    }
)

GRANTS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: _VIEW,
    Role.OPERATOR: _VIEW
    | {
        Permission.CHANGE_FLEET,
        Permission.ENROL,
        Permission.ROLL_OUT,
        Permission.APPROVE,
        Permission.READ_BLOBS,
    },
    # Reads blobs: a manifest proves what the digest that is approved stands for.
    Role.APPROVER: _VIEW | {Permission.APPROVE, Permission.READ_BLOBS},
    Role.PUBLISHER: frozenset(
        {
            Permission.READ_MODELS,
            Permission.READ_BLOBS,
            Permission.PUBLISH,
            Permission.CHANGE_CHANNELS,
        }
    ),
    Role.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True)
class Actor:
    """Who asks: the holder of an operator token."""

    name: str
    role: Role

    @property
    def audit_name(self) -> str:
        """How the audit log calls it."""
        return f"token:{self.name}"


def allowed(actor: Actor, permission: Permission) -> bool:
    """Tell whether the actor's role has the permission."""
    return permission in GRANTS[actor.role]


def roles_with(permission: Permission) -> list[Role]:
    """Return the roles that have the permission, for an error that says what to ask for."""
    return [role for role, granted in GRANTS.items() if permission in granted]
