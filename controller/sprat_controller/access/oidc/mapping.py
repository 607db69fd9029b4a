"""Which roles somebody has by the groups that their provider says they are in. Pure.

Deny by default: a group that no rule names gives nothing, and whoever is in none has nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

MAX_GROUPS: Final = 10_000
MAX_NAME: Final = 128


@dataclass(frozen=True, order=True)
class Given:
    """A role over some devices.

    Attributes:
        role: Name of a role.
        scope: Text of a target filter, in its one form; empty: everything.
    """

    role: str
    scope: str = ""

    @property
    def said(self) -> str:
        """As people read it."""
        return f"{self.role} over {self.scope or 'everything'}"


@dataclass(frozen=True)
class Rule:
    """Whoever is in a group has a role; names are compared letter by letter."""

    group: str
    given: Given


def groups_in(claims: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """Return the groups that a claim names; None: there is no such claim.

    Args:
        claims: Of an ID token, or of the provider's userinfo.
        name: The claim's, or a path such as `realm_access.roles` if no claim is called that.
    """
    found = claims[name] if name in claims else _below(claims, name.split("."))
    if found is None:
        return None
    listed = cast("Sequence[Any]", found) if isinstance(found, list) else [found]
    return tuple(one for one in listed[:MAX_GROUPS] if isinstance(one, str))


def roles_of(groups: Sequence[str], rules: Sequence[Rule]) -> tuple[Given, ...]:
    """Return what the groups give, each once, in order."""
    are_in = frozenset(groups)
    return tuple(sorted({rule.given for rule in rules if rule.group in are_in}))


def name_in(claims: Mapping[str, Any], name: str) -> str:
    """Return what people call somebody; empty: it is not told, or cannot be shown."""
    found = claims.get(name)
    if not isinstance(found, str) or not found.isprintable():
        return ""
    return found[:MAX_NAME].strip()


def _below(claims: Mapping[str, Any], path: Sequence[str]) -> Any:
    at: Any = claims
    for name in path:
        if not isinstance(at, dict):
            return None
        at = cast("Mapping[str, Any]", at).get(name)
    return at
