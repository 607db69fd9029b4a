"""Who may do what, to which devices: one table of roles, and a decision over bindings. Pure.

Deny by default: whoever has no binding may do nothing, and a binding only ever adds. A role has
what its row says and nothing that follows from another row: a publisher's CI cannot see the fleet,
an operator cannot publish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from sprat_controller.access import scopes
from sprat_controller.access.covering import Covering
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.fleet.filters.fields import Facts


class Role(StrEnum):
    """The roles that are there from the start."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    PUBLISHER = "publisher"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Permission(StrEnum):
    """What can be allowed. A format: roles of our users name them."""

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
    BREAK_GLASS = "rollouts:break-glass"  # and the approvals that the controller asks for
    READ_AUDIT = "audit:read"
    MANAGE_AUDIT = "audit:manage"  # how long it is kept, and what is kept all the same
    READ_USERS = "users:read"
    MANAGE_USERS = "users:manage"  # and service accounts, and who has which role
    MANAGE_ROLES = "roles:manage"
    MANAGE_TOKENS = "tokens:manage"  # those of others; everybody has a say over their own


class About(StrEnum):
    """What a permission is about, and so what a binding over some devices says of it."""

    DEVICES = "devices"  # of those devices only
    SHARED = "shared"  # it is the same for all devices, and no secret: allowed
    FLEET = "fleet"  # it changes something for all devices: not allowed


ABOUT: Final[Mapping[Permission, About]] = {
    Permission.READ_FLEET: About.DEVICES,
    Permission.CHANGE_FLEET: About.DEVICES,
    Permission.ENROL: About.DEVICES,
    Permission.READ_MODELS: About.SHARED,
    Permission.READ_BLOBS: About.SHARED,
    Permission.PUBLISH: About.FLEET,
    Permission.CHANGE_CHANNELS: About.FLEET,
    Permission.MANAGE_TRUST: About.FLEET,
    Permission.READ_ROLLOUTS: About.DEVICES,
    Permission.ROLL_OUT: About.DEVICES,
    Permission.APPROVE: About.DEVICES,
    Permission.OVERRIDE: About.DEVICES,
    Permission.BREAK_GLASS: About.DEVICES,
    Permission.READ_AUDIT: About.DEVICES,
    Permission.MANAGE_AUDIT: About.FLEET,
    Permission.READ_USERS: About.FLEET,
    Permission.MANAGE_USERS: About.FLEET,
    Permission.MANAGE_ROLES: About.FLEET,
    Permission.MANAGE_TOKENS: About.FLEET,
}

_VIEW: Final = frozenset({Permission.READ_FLEET, Permission.READ_MODELS, Permission.READ_ROLLOUTS})

GRANTS: Final[Mapping[str, frozenset[Permission]]] = {
    Role.VIEWER: _VIEW,
    Role.OPERATOR: _VIEW
    | {
        Permission.READ_AUDIT,
        Permission.CHANGE_FLEET,
        Permission.ENROL,
        Permission.ROLL_OUT,
        Permission.APPROVE,
        Permission.READ_BLOBS,
    },
    # Reads blobs: a manifest proves what the digest that is approved stands for.
    Role.APPROVER: _VIEW | {Permission.READ_AUDIT, Permission.APPROVE, Permission.READ_BLOBS},
    Role.PUBLISHER: frozenset(
        {
            Permission.READ_MODELS,
            Permission.READ_BLOBS,
            Permission.PUBLISH,
            Permission.CHANGE_CHANNELS,
        }
    ),
    # Changes nothing, so that nobody audits what they did themselves.
    Role.AUDITOR: _VIEW | {Permission.READ_AUDIT, Permission.READ_BLOBS, Permission.READ_USERS},
    Role.ADMIN: frozenset(Permission),
}

# Of what somebody has, in a refusal.
_MOST_SAID: Final = 10

Roles = Mapping[str, frozenset[Permission]]


@dataclass(frozen=True)
class Binding:
    """A subject has a role over some devices.

    Attributes:
        subject: `user:NAME` or `service:NAME`.
        role: Name of one of `GRANTS`, or of one that people made.
        scope: Text of a target filter (`scopes.read`); empty: everything.
    """

    subject: str
    role: str
    scope: str = ""

    @property
    def said(self) -> str:
        """As an answer names it."""
        return f"{self.role} over {self.scope}" if self.scope else f"{self.role} over everything"


@dataclass(frozen=True)
class Decision:
    """Whether something is allowed, and why.

    Attributes:
        allowed: It is.
        reason: One sentence for people.
        rule: The binding that allows it; None: none does.
    """

    allowed: bool
    reason: str
    rule: Binding | None = None


@dataclass(frozen=True)
class _Rule:
    """A binding that allows something, and its scope as a predicate."""

    binding: Binding
    scope: Scope
    reason: str


class _Rules:
    """What allows a subject one permission."""

    def __init__(self, rules: Iterable[_Rule]) -> None:
        # What is over everything comes first: it covers any device without a look at it.
        self.every = tuple(sorted(rules, key=lambda rule: not rule.scope.is_everything))

    @cached_property
    def _covering(self) -> Covering:
        return Covering([rule.scope for rule in self.every])

    def of(self, device: Facts) -> _Rule | None:
        """Return the first that covers a device."""
        if self.every and self.every[0].scope.is_everything:
            return self.every[0]
        first = self._covering.first(device)
        return None if first is None else self.every[first]


_Held = Mapping[Permission, _Rules]
_NO_RULES: Final = _Rules(())


class Policy:
    """All bindings and roles at one moment; a change makes another one.

    What a subject has is put together when it is asked for first: 10,000 bindings are read in one
    go, and few of them are asked for.
    """

    def __init__(self, bindings: Iterable[Binding], roles: Roles | None = None) -> None:
        """Take what is bound.

        Args:
            bindings: All; subjects that are disabled have none.
            roles: Those that people made; none stands for one of `GRANTS`.
        """
        self._roles: Roles = {**(roles or {}), **GRANTS}
        self._bindings: dict[str, list[Binding]] = {}
        for binding in dict.fromkeys(bindings):
            self._bindings.setdefault(binding.subject, []).append(binding)
        self._held: dict[str, _Held] = {}
        self._said: dict[str, str] = {}
        self._scopes: dict[tuple[str, Permission], Scope | None] = {}

    def permissions_of(self, role: str) -> frozenset[Permission]:
        """Return what a role allows; nothing, if there is none of this name."""
        return self._roles.get(role, frozenset())

    def bindings_of(self, subject: str) -> tuple[Binding, ...]:
        """Return what a subject was given."""
        return tuple(self._bindings.get(subject, ()))

    def subjects_with(self, role: str) -> tuple[str, ...]:
        """Return who has a role over everything."""
        return tuple(
            subject
            for subject in self._bindings
            if Binding(subject, role) in self._bindings[subject]
        )

    def scope(self, subject: str, permission: Permission) -> Scope | None:
        """Return the devices that the subject has a permission over; None: it has it not.

        Of a permission that is about no device it is everything, or None.
        """
        key = (subject, permission)
        if key not in self._scopes:
            rules = self._rules(subject, permission).every
            is_scoped = ABOUT[permission] is About.DEVICES
            self._scopes[key] = _union(rules) if is_scoped or not rules else EVERYTHING
        return self._scopes[key]

    def decide(self, subject: str, permission: Permission, device: Facts | None = None) -> Decision:
        """Tell whether the subject may do something.

        Args:
            subject: Who.
            permission: What.
            device: To which device; None: to any at all, or it is about none.
        """
        rules = self._rules(subject, permission)
        if rules.every:
            about = device if ABOUT[permission] is About.DEVICES else None
            rule = rules.every[0] if about is None else rules.of(about)
            if rule is not None:
                return Decision(True, rule.reason, rule.binding)  # noqa: FBT003 - it costs less
        return Decision(allowed=False, reason=self._why_not(subject, permission, device))

    def _rules(self, subject: str, permission: Permission) -> _Rules:
        held = self._held.get(subject)
        if held is None:
            held = self._held[subject] = self._compiled(self._bindings.get(subject, ()))
        return held.get(permission, _NO_RULES)

    def _compiled(self, bindings: Iterable[Binding]) -> _Held:
        rules: list[_Rule] = []
        held: dict[Permission, list[int]] = {}
        for binding in bindings:
            scope = scopes.read(binding.scope)
            for permission in self.permissions_of(binding.role):
                if ABOUT[permission] is not About.FLEET or scope.is_everything:
                    held.setdefault(permission, []).append(len(rules))
            rules.append(_Rule(binding, scope, f"{binding.subject} is {binding.said}"))
        # Many permissions are held alike: what is the same is put together once.
        alike = {
            which: _Rules([rules[one] for one in which]) for which in set(map(tuple, held.values()))
        }
        return {permission: alike[tuple(which)] for permission, which in held.items()}

    def _why_not(self, subject: str, permission: Permission, device: Facts | None) -> str:
        has = self._said.get(subject)
        if has is None:
            has = self._said[subject] = f"{subject} is {self._what_is_held(subject)}, which does"
        if device is not None and self._rules(subject, permission).every:
            return f"{has} not cover the device {device.device}"
        wanted = " or ".join(roles_with(permission))
        whole = " over everything" if ABOUT[permission] is About.FLEET else ""
        return f"{has} not allow {permission}: ask for the role {wanted}{whole}"

    def _what_is_held(self, subject: str) -> str:
        """Return it for a sentence, which nobody reads whole if somebody has a thousand."""
        held = self._bindings.get(subject, ())
        said = [binding.said for binding in held[:_MOST_SAID]]
        if len(held) > len(said):
            said.append(f"{len(held) - len(said)} more")
        return " and ".join(said) or "nothing"


def _union(rules: Iterable[_Rule]) -> Scope | None:
    found: Scope | None = None
    for rule in rules:
        found = rule.scope if found is None else found.widened(rule.scope)
        if found.is_everything:
            return EVERYTHING
    return found


def roles_with(permission: Permission) -> list[str]:
    """Return the built-in roles that have the permission, for an error that says what to ask."""
    return [role for role, granted in GRANTS.items() if permission in granted]
