"""Who you are to the controller: login, whoami, and the tokens of people and services."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sprat_controller.access.policy import Role
from sprat_controller.cli import words
from sprat_controller.cli.client import Api
from sprat_controller.cli.files import read_text
from sprat_controller.cli.output import say
from sprat_controller.cli.settings import (
    Settings,
    checked_token,
    checked_url,
    config_path,
    save,
    tls,
)
from sprat_controller.cli.verbs import Session, verb

tokens = typer.Typer(help="Tokens of people and services.", rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    example = "sprat login https://ctl:7770 --ca ca.pem --token-file admin.token"
    verb(app, "login", example=example)(login)
    verb(app, "whoami", example="sprat whoami")(whoami)
    app.add_typer(tokens, name="tokens")


def login(
    session: Session,
    address: Annotated[str, typer.Argument(metavar="URL", help="https://HOST:PORT")],
    token_file: Annotated[
        Path | None, typer.Option(help="A file that holds the token; - reads standard input.")
    ] = None,
) -> None:
    """Check an address and a token, and keep both for later calls."""
    settings = Settings(
        checked_url(address), _token(session, token_file), _absolute(_ca_of(session))
    )
    tls(settings.ca)
    api = Api(settings, session.around.transport)
    try:
        who = api.get("whoami")
    finally:
        api.close()
    save(config_path(session.around.environ), settings)
    session.output.one(
        {"controller": settings.url, "name": who.get("name"), "role": who.get("role")}, who
    )


def whoami(session: Session) -> None:
    """Show whose token is in use and what it may do."""
    who = session.api.get("whoami")
    session.output.one({"name": who.get("name"), "role": who.get("role")}, who)


@verb(tokens, "create", example="sprat tokens create ci --role publisher --expires-days 90")
def create_token(
    session: Session,
    name: Annotated[str, typer.Argument(help="Whose token it is.")],
    role: Annotated[Role, typer.Option(help="What it may do.")],
    expires_days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Default: never expires.")
    ] = None,
) -> None:
    """Make a token; it is shown this once."""
    body: dict[str, object] = {"name": words.name(name, "a token's name"), "role": role.value}
    if expires_days is not None:
        body["expires_days"] = expires_days
    made = session.api.post("tokens", body)
    session.output.one({"id": made.get("id"), "token": made.get("token")}, made)
    say("This token is shown only once.")


@verb(tokens, "list", example="sprat tokens list")
def list_tokens(session: Session) -> None:
    """List tokens, without their secrets."""
    items = list(session.api.pages("tokens"))
    columns = ("id", "name", "role", "created_at", "expires_at", "last_used_at", "revoked_at")
    rows = [[item.get(column) for column in columns] for item in items]
    session.output.rows(columns, rows, {"items": items})


@verb(tokens, "revoke", example="sprat tokens revoke 0190c5ad")
def revoke_token(session: Session, token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Make a token worthless at once."""
    session.api.delete(f"tokens/{words.identifier(token_id, 'a token')}")
    session.output.one({"id": token_id, "revoked": True}, {"id": token_id, "revoked": True})


def _token(session: Session, token_file: Path | None) -> str:
    given = session.flags.token
    if given is None:
        given = session.around.environ.get("SPRAT_TOKEN") or None
    if token_file is not None:
        given = sys.stdin.read(4096) if str(token_file) == "-" else read_text(token_file, "token")
    if given is None and sys.stdin.isatty():
        given = typer.prompt("Token", hide_input=True, err=True)
    if given is None:
        raise words.wrong("no token: give --token-file, --token or SPRAT_TOKEN")
    return checked_token(given)


def _ca_of(session: Session) -> str | None:
    return session.flags.ca or session.around.environ.get("SPRAT_CA")


def _absolute(ca: str | None) -> str | None:
    return str(Path(ca).resolve()) if ca else None
