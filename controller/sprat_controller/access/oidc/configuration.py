"""With whom people sign in, and what their groups give them: the file of `--oidc`.

    issuer = "https://id.example/realms/works"
    client_id = "sprat"
    client_secret_file = "oidc.secret"
    redirect_uri = "https://ctl.example:7770/api/v1/oidc/callback"

    [[role]]
    group = "fleet-admins"
    role = "admin"

All faults are told at once, one sentence each, and nothing of it asks the provider: a controller
starts without.
"""

from __future__ import annotations

import ssl
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeGuard, cast
from urllib.parse import urlsplit

from sprat_controller.access import scopes
from sprat_controller.access.oidc import discovery
from sprat_controller.access.oidc.mapping import Given, Rule
from sprat_controller.access.oidc.tokens.keys import ALGORITHMS
from sprat_controller.access.sessions import LIFETIME
from sprat_controller.errors import RequestError, StartupError

CALLBACK: Final = "/api/v1/oidc/callback"
BASIC: Final = "basic"
POST: Final = "post"
NONE: Final = "none"  # a public client, which proves nothing but PKCE
MAX_RULES: Final = 10_000
_MAX_TEXT: Final = 1024
_MAX_FILE: Final = 1 << 20
_MAX_HOURS: Final = int(LIFETIME.total_seconds()) // 3600
_MAX_AUTH_HOURS: Final = 24 * 365
_RULE_NAMES: Final = frozenset({"group", "role", "scope"})
_ROLE_FORM: Final = "a-z, 0-9 and ._-"
_ROLE_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_MAX_ROLE: Final = 64


@dataclass(frozen=True)
class Configuration:
    """What the file says.

    Attributes:
        issuer: The provider, exactly as its tokens name it.
        client_id: What it calls us.
        client_secret: What we prove that with; None: nothing.
        client_auth: How: `BASIC`, `POST` or `NONE`.
        redirect_uri: Where it sends browsers back to.
        trust: The authorities that its certificate may be of.
        scopes: What is asked for.
        groups_claim: Which claim names somebody's groups.
        name_claim: Which one says what people call them.
        algorithms: Which tokens may be signed with.
        rules: What groups give.
        lifetime: How long a session lasts at most.
        max_auth_age: How long ago somebody may have shown the provider who they are; None: ever.
    """

    issuer: str
    client_id: str
    client_secret: str | None
    client_auth: str
    redirect_uri: str
    trust: ssl.SSLContext
    scopes: tuple[str, ...]
    groups_claim: str
    name_claim: str
    algorithms: tuple[str, ...]
    rules: tuple[Rule, ...]
    lifetime: timedelta
    max_auth_age: timedelta | None


class _File:
    """A table of the file: gives out its values and collects what is wrong with them."""

    def __init__(self, said: Mapping[str, Any], folder: Path) -> None:
        self._said = said
        self._folder = folder
        self._asked: set[str] = set()
        self.faults: list[str] = []

    def fault(self, name: str, sentence: object) -> None:
        """Keep one sentence about one value."""
        self.faults.append(f"{name}: {sentence}")

    def get(self, name: str) -> Any:
        """Return a value as it is; None: there is none."""
        self._asked.add(name)
        return self._said.get(name)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text, or the default; empty: there is a fault."""
        found = self.get(name)
        if found is None and default is not None:
            return default
        if not _is_text(found):
            self.fault(name, f"expected a text, found {_shown(found)}")
            return ""
        return found

    def address(self, name: str) -> str:
        """Return an address; empty: there is a fault."""
        found = self.get(name)
        try:
            return discovery.checked(found)
        except ValueError as error:
            self.fault(name, error if found is not None else "expected an address, found nothing")
            return ""

    def texts(self, name: str, default: Sequence[str]) -> tuple[str, ...]:
        """Return a list of texts, or the default."""
        found = self.get(name)
        if found is None:
            return tuple(default)
        listed = cast("list[Any]", found) if isinstance(found, list) else []
        if not listed or not all(_is_text(one) for one in listed):
            self.fault(name, f"expected a list of texts, found {_shown(self._said[name])}")
            return tuple(default)
        return tuple(dict.fromkeys(listed))

    def hours(self, name: str, most: int) -> timedelta | None:
        """Return a number of hours; None: there is none."""
        found = self.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= most:
            self.fault(name, f"expected 1 to {most} hours, found {_shown(found)}")
            return None
        return timedelta(hours=found)

    def path(self, name: str) -> Path | None:
        """Return the path of another file; it is relative to this one."""
        found = self.get(name)
        if found is None:
            return None
        if not _is_text(found):
            self.fault(name, f"expected the path of a file, found {_shown(found)}")
            return None
        return self._folder / found

    def check_names(self) -> None:
        """Find what nobody asks for: it does nothing, where somebody believes that it does."""
        for name in self._said.keys() - self._asked:
            self.fault(name[:_MAX_TEXT], "there is no such setting: see docs/access.md")


def load(path: Path) -> Configuration:
    """Return what a file says.

    Raises:
        StartupError: `bad_oidc`: it cannot be read, or says something that it cannot mean; a
            sentence for each fault.
    """
    try:
        said = tomllib.loads(_content(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StartupError("bad_oidc", f"--oidc {path} cannot be read: {reason}") from error
    file = _File(said, path.parent)
    found = _configuration(file)
    file.check_names()
    if file.faults:
        raise StartupError(
            "bad_oidc", "\n".join(f"--oidc {path}: {fault}" for fault in sorted(file.faults))
        )
    return found


def _configuration(file: _File) -> Configuration:
    secret, auth = _client(file)
    return Configuration(
        issuer=_issuer(file),
        client_id=file.text("client_id"),
        client_secret=secret,
        client_auth=auth,
        redirect_uri=_redirect(file),
        trust=_trust(file),
        scopes=_scopes(file),
        groups_claim=file.text("groups_claim", "groups"),
        name_claim=file.text("name_claim", "preferred_username"),
        algorithms=_algorithms(file),
        rules=_rules(file),
        lifetime=file.hours("session_hours", _MAX_HOURS) or LIFETIME,
        max_auth_age=file.hours("max_auth_age_hours", _MAX_AUTH_HOURS),
    )


def _issuer(file: _File) -> str:
    found = file.address("issuer")
    if "?" in found:
        file.fault("issuer", f"expected an address without a query, found {_shown(found)}")
    return found


def _redirect(file: _File) -> str:
    found = file.address("redirect_uri")
    if found and (urlsplit(found).path != CALLBACK or "?" in found):
        file.fault("redirect_uri", f"expected https://HOST:PORT{CALLBACK}, found {_shown(found)}")
    return found


def _client(file: _File) -> tuple[str | None, str]:
    path = file.path("client_secret_file")
    auth = file.text("client_auth", BASIC if path else NONE)
    if auth not in (BASIC, POST, NONE):
        file.fault("client_auth", f"expected basic, post or none, found {_shown(auth)}")
    if (auth == NONE) != (path is None):
        file.fault(
            "client_secret_file", "expected one with client_auth basic or post, and none else"
        )
    if path is None:
        return None, auth
    try:
        secret = _content(path).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        file.fault("client_secret_file", f"{path} cannot be read: {reason}")
        return None, auth
    if not secret or not secret.isprintable():
        # Its content is a secret, however wrong.
        file.fault(
            "client_secret_file", f"expected one line in {path}, found another number of them"
        )
    return secret, auth


def _trust(file: _File) -> ssl.SSLContext:
    path = file.path("ca_file")
    try:
        return ssl.create_default_context(cafile=path)
    except (ssl.SSLError, ValueError):
        file.fault("ca_file", f"{path} cannot be used: no certificate in PEM form")
    except OSError as error:
        file.fault("ca_file", f"{path} cannot be used: {error.strerror}")
    return ssl.create_default_context()


def _scopes(file: _File) -> tuple[str, ...]:
    found = file.texts("scopes", ("openid", "profile"))
    if "openid" not in found or any(" " in one for one in found):
        file.fault(
            "scopes", f"expected 'openid' and others, each a word, found {_shown(list(found))}"
        )
    return found


def _algorithms(file: _File) -> tuple[str, ...]:
    found = file.texts("algorithms", ("RS256",))
    for one in found:
        if one not in ALGORITHMS:
            known = ", ".join(ALGORITHMS)
            file.fault("algorithms", f"expected some of {known}, found {_shown(one)}")
    return found


def _rules(file: _File) -> tuple[Rule, ...]:
    found = file.get("role")
    listed = cast("list[Any]", found) if isinstance(found, list) else []
    if not 1 <= len(listed) <= MAX_RULES:
        file.fault("role", f"expected 1 to {MAX_RULES} tables [[role]], found {len(listed)}")
        return ()
    rules = [_rule(file, f"role {number}", one) for number, one in enumerate(listed, 1)]
    return tuple(dict.fromkeys(rule for rule in rules if rule is not None))


def _rule(file: _File, name: str, said: object) -> Rule | None:
    table = cast("dict[str, Any]", said) if isinstance(said, dict) else {"": said}
    if not table.keys() <= _RULE_NAMES:
        file.fault(name, f"expected group, role and maybe scope, found {_shown(table)}")
        return None
    group, role, scope = table.get("group"), table.get("role"), table.get("scope", "")
    if not _is_text(group):
        file.fault(name, f"expected the name of a group, found {_shown(group)}")
    if not _is_text(role) or not set(role) <= _ROLE_LETTERS or len(role) > _MAX_ROLE:
        file.fault(name, f"expected the name of a role, of {_ROLE_FORM}, found {_shown(role)}")
    if not isinstance(scope, str):
        file.fault(name, f"expected a filter as scope, found {_shown(scope)}")
        return None
    try:
        text = scopes.read(scope).text
    except RequestError as error:
        file.fault(name, error.message)
        return None
    return Rule(str(group), Given(str(role), text))


def _content(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ValueError(f"expected at most {_MAX_FILE} bytes, found more")
    return data.decode()


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:100]
