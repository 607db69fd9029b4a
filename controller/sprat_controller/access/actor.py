"""Who asks: a subject, by which token or session, and what both together allow. Pure.

A token never allows more than its owner has at this moment: what it says of itself only takes away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from sprat_controller.access.policy import (
    ABOUT,
    About,
    Decision,
    Permission,
    Policy,
)
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.errors import DeniedError
from sprat_controller.fleet.filters.fields import Facts

# How long a token is good for if nothing is said, and at most.
DEFAULT_LIFETIME: Final = timedelta(days=90)
MAX_LIFETIME: Final = timedelta(days=366)


class SubjectKind(StrEnum):
    """What a subject is."""

    USER = "user"
    SERVICE = "service"


def subject_of(kind: SubjectKind, name: str) -> str:
    """Return how bindings, rows and the audit log call a subject; names are never given anew."""
    return f"{kind}:{name}"


@dataclass(frozen=True)
class Cap:
    """The most that a token allows.

    Attributes:
        role: Of which its permissions are.
        scope: Of which its devices are, at most.
    """

    role: str
    scope: Scope = EVERYTHING


@dataclass(frozen=True)
class Actor:
    """Who asks.

    Attributes:
        subject: `user:NAME` or `service:NAME`, as the audit log has it.
        policy: What was granted when the request came.
        session: Id of the token that was shown.
        authn: How the subject showed who it is.
        cap: Of the token; None: it does all that its owner may.
    """

    subject: str
    policy: Policy
    session: str = ""
    authn: str = "token"
    cap: Cap | None = None

    @property
    def name(self) -> str:
        """The subject's, without its kind."""
        return self.subject.partition(":")[2]

    @property
    def audit_name(self) -> str:
        """How the audit log calls it."""
        return self.subject

    def held(self, permission: Permission) -> Scope | None:
        """Return the devices that the permission is over; None: it is not held."""
        found = self.policy.scope(self.subject, permission)
        if found is None or self.cap is None:
            return found
        if permission not in self.policy.permissions_of(self.cap.role):
            return None
        most = self.cap.scope
        if ABOUT[permission] is About.FLEET and not most.is_everything:
            return None
        return found.narrowed(most) if ABOUT[permission] is About.DEVICES else found

    def scope(self, permission: Permission) -> Scope:
        """Return the devices that the permission is over, for a query to stay within.

        Raises:
            DeniedError: `not_allowed`: it is not held at all.
        """
        found = self.held(permission)
        if found is None:
            raise not_allowed(permission, self.decide(permission))
        return found

    def decide(self, permission: Permission, device: Facts | None = None) -> Decision:
        """Tell whether it may do something: to a device, or if none is named to any at all."""
        decision = self.policy.decide(self.subject, permission, device)
        if not decision.allowed or self.cap is None:
            return decision
        why_not = self._why_capped(self.cap, permission, device)
        return Decision(allowed=False, reason=why_not) if why_not else decision

    def _why_capped(self, cap: Cap, permission: Permission, device: Facts | None) -> str:
        """Return why the token does not allow what its owner may; empty: it does."""
        about = ABOUT[permission]
        if permission not in self.policy.permissions_of(cap.role):
            fault = f"which does not allow {permission}"
        elif about is About.FLEET and not cap.scope.is_everything:
            fault = f"and {permission} is over everything"
        elif about is About.DEVICES and device is not None and not cap.scope.covers(device):
            fault = f"which does not cover the device {device.device}"
        else:
            return ""
        over = "" if cap.scope.is_everything else f" over {cap.scope.text}"
        return f"the token {self.session} of {self.subject} is only {cap.role}{over}, {fault}"

    def grantable(self, permissions: Iterable[Permission], asked: Scope) -> Scope:
        """Return the scope in which these permissions can be given on: what is asked, and held.

        Nobody gives what they do not hold: each permission must be held, and what is given is
        within what it is held over.

        Raises:
            DeniedError: `cannot_grant`; it names the first permission that is not held so.
        """
        given = asked
        for permission, held in self._holding(permissions, asked):
            if held is None:
                raise _cannot_grant(self.subject, permission)
            given = given.narrowed(held)
        return given

    def check_holds(self, permissions: Iterable[Permission], scope: Scope) -> None:
        """Check that it could give these permissions over all of the scope, itself.

        Raises:
            DeniedError: `cannot_grant`; it names the first permission that is not held so.
        """
        for permission, held in self._holding(permissions, scope):
            if held is None or not held.contains(scope):
                raise _cannot_grant(self.subject, permission)

    def _holding(
        self, permissions: Iterable[Permission], over: Scope
    ) -> Iterator[tuple[Permission, Scope | None]]:
        """Yield which of them say something over a scope, and what is held of each."""
        for permission in sorted(permissions):
            if over.is_everything or ABOUT[permission] is not About.FLEET:
                yield permission, self.held(permission)


def _cannot_grant(subject: str, permission: Permission) -> DeniedError:
    return DeniedError(
        "cannot_grant",
        f"{subject} does not hold {permission} there, and nobody gives or takes what they do not"
        " hold: ask somebody who does",
        {"permission": permission.value},
    )


def not_allowed(permission: Permission, decision: Decision) -> DeniedError:
    """Return the refusal of a decision."""
    return DeniedError("not_allowed", decision.reason, {"permission": permission.value})
