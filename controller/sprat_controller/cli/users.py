"""Who may do what: users and service accounts, roles, and who has which over which devices."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sprat_controller.access.actor import SubjectKind
from sprat_controller.cli import whole_ids, words
from sprat_controller.cli.files import read_text
from sprat_controller.cli.verbs import Session, verb

users = typer.Typer(help="Users and service accounts.", rich_markup_mode=None)
roles = typer.Typer(help="Roles: named sets of permissions.", rich_markup_mode=None)
bindings = typer.Typer(help="Who has which role over which devices.", rich_markup_mode=None)

Json = dict[str, Any]
User = Annotated[str, typer.Argument(metavar="USER", help="NAME, user:NAME or service:NAME")]
RoleName = Annotated[str, typer.Argument(metavar="ROLE")]
Scope = Annotated[
    str, typer.Option(metavar="FILTER", help="Over which devices, such as 'site = lyon'; all.")
]
Permissions = Annotated[list[str], typer.Option("--allow", help="A permission; repeatable.")]
USERS: Final = (
    *("id", "owner_id", "created_at", "created_by", "disabled_at"),
    *("issuer", "known_as"),
)
BINDINGS: Final = ("id", "subject", "role", "scope", "created_at", "created_by", "ends_at")
_SUBJECT: Final = re.compile(r"((user|service):)?[a-z0-9][a-z0-9._-]{0,63}")


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    for name, verbs in (("users", users), ("roles", roles), ("bindings", bindings)):
        app.add_typer(verbs, name=name)


@verb(users, "list", example="sprat users list")
def list_users(session: Session) -> None:
    """List users and service accounts."""
    items = list(session.api.pages("users"))
    session.output.rows(USERS, [_row(USERS, one) for one in items], {"items": items})


@verb(users, "create", example="sprat users create bob --role operator --scope 'site = lyon'")
def create_user(
    session: Session,
    name: Annotated[str, typer.Argument(help="Theirs for ever: it is never given anew.")],
    role: Annotated[str | None, typer.Option(help="A role to begin with.")] = None,
    scope: Scope = "",
    *,
    service: Annotated[
        bool, typer.Option("--service", help="A service account, which acts for you.")
    ] = False,
) -> None:
    """Make a user or a service account."""
    body: Json = {
        "name": words.name(name, "a user's name"),
        "kind": (SubjectKind.SERVICE if service else SubjectKind.USER).value,
        "scope": scope,
    }
    if role is not None:
        body["role"] = words.name(role, "a role")
    made = session.api.post("users", body)
    session.output.one(dict(zip(USERS, _row(USERS, made), strict=True)), made)


@verb(users, "disable", example="sprat users disable bob")
def disable_user(session: Session, user: User) -> None:
    """Take away all that somebody may, at once, and what services may that act for them."""
    _moved(session, session.api.post(f"users/{subject(user)}/disable"))


@verb(users, "enable", example="sprat users enable bob")
def enable_user(session: Session, user: User) -> None:
    """Give somebody back what they were given."""
    _moved(session, session.api.post(f"users/{subject(user)}/enable"))


@verb(users, "set-password", example="sprat users set-password bob")
def set_password(
    session: Session,
    user: User,
    password_file: Annotated[
        Path | None, typer.Option(help="A file that holds the new password; - reads stdin.")
    ] = None,
    current_file: Annotated[
        Path | None, typer.Option(help="A file that holds the one before; asked for if needed.")
    ] = None,
) -> None:
    """Set your password, or that of somebody who holds nothing that you do not hold."""
    path = f"users/{subject(user)}/password"
    body: Json = {"password": password(password_file, "New password", twice=True)}
    if current_file is not None:
        body["current"] = password(current_file, "Password")
    elif sys.stdin.isatty() and session.api.get("whoami").get("name") == user:
        body["current"] = password(None, "Password before (empty: none)")
    session.api.replace(path, {key: value for key, value in body.items() if value})
    said = {"id": user, "password": "set"}
    session.output.one(said, said)


@verb(roles, "list", example="sprat roles list")
def list_roles(session: Session) -> None:
    """List roles and what they allow."""
    items = list(session.api.pages("roles"))
    rows = [
        [one.get("name"), "yes" if one.get("built_in") else "no", " ".join(one["permissions"])]
        for one in items
    ]
    session.output.rows(("name", "built_in", "permissions"), rows, {"items": items})


@verb(roles, "create", example="sprat roles create night --allow fleet:read --allow rollouts:read")
def create_role(session: Session, name: RoleName, allow: Permissions) -> None:
    """Make a role of permissions that you hold yourself."""
    body = {"name": words.name(name, "a role"), "permissions": allow}
    _role(session, session.api.post("roles", body))


@verb(roles, "change", example="sprat roles change night --allow fleet:read")
def change_role(session: Session, name: RoleName, allow: Permissions) -> None:
    """Replace what a role allows, for all who have it."""
    path = f"roles/{words.name(name, 'a role')}"
    _role(session, session.api.patch(path, {"permissions": allow}))


@verb(roles, "remove", example="sprat roles remove night")
def remove_role(session: Session, name: RoleName) -> None:
    """Remove a role that nobody has."""
    session.api.delete(f"roles/{words.name(name, 'a role')}")
    said = {"name": name, "removed": True}
    session.output.one(said, said)


@verb(bindings, "list", example="sprat bindings list --of bob")
def list_bindings(
    session: Session,
    of: Annotated[str | None, typer.Option(metavar="USER", help="Only those of one.")] = None,
) -> None:
    """List who has which role over which devices."""
    asked = {} if of is None else {"subject": subject(of)}
    items = list(session.api.pages("bindings", asked))
    session.output.rows(BINDINGS, [_row(BINDINGS, one) for one in items], {"items": items})


@verb(bindings, "grant", example="sprat bindings grant bob operator --scope 'site = lyon'")
def grant(session: Session, user: User, role: RoleName, scope: Scope = "") -> None:
    """Give somebody a role, within what you hold it over yourself."""
    body = {"subject": subject(user), "role": words.name(role, "a role"), "scope": scope}
    made = session.api.post("bindings", body)
    session.output.one(dict(zip(BINDINGS, _row(BINDINGS, made), strict=True)), made)


@verb(bindings, "revoke", example="sprat bindings revoke 0190c5ad")
def revoke(session: Session, binding_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Take a role away, at once."""
    binding_id = whole_ids.whole(session.api, "bindings", binding_id, "a binding")
    session.api.delete(f"bindings/{binding_id}")
    said = {"id": binding_id, "revoked": True}
    session.output.one(said, said)


def subject(text: str) -> str:
    """Check how a user or a service account is called.

    Raises:
        CliError: It is no name.
    """
    if _SUBJECT.fullmatch(text) is None:
        raise words.wrong(
            "expected a user as NAME, user:NAME or service:NAME of a-z, 0-9 and ._-, found"
            f" {text!r}"
        )
    return text


def password(file: Path | None, what: str, *, twice: bool = False) -> str:
    """Return a password from a file, from standard input (-), or from who sits there.

    Raises:
        CliError: There is none, or nobody to ask.
    """
    if file is None and sys.stdin.isatty():
        asked: str = typer.prompt(
            what,
            hide_input=True,
            err=True,
            confirmation_prompt=twice,
            default=None if twice else "",
            show_default=False,
        )
        return asked
    if file is None:
        raise words.wrong("no password, and nobody to ask: give --password-file")
    given = sys.stdin.read(4096) if str(file) == "-" else read_text(file, "password")
    # The line's end is the editor's; a space may be part of it.
    given = given.rstrip("\r\n")
    if not given:
        raise words.wrong(f"expected a password in {file}, found nothing")
    return given


def _row(columns: tuple[str, ...], one: Json) -> list[Any]:
    return [one.get(column) for column in columns]


def _moved(session: Session, found: Json) -> None:
    session.output.one(dict(zip(USERS, _row(USERS, found), strict=True)), found)


def _role(session: Session, found: Json) -> None:
    session.output.one(
        {"name": found.get("name"), "permissions": " ".join(found.get("permissions", ()))}, found
    )
