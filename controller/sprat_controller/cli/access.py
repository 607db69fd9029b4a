"""Who you are to the controller: login, logout, whoami, sessions, and tokens."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sprat_controller.access.actor import DEFAULT_LIFETIME, MAX_LIFETIME
from sprat_controller.cli import single_sign_on, users, whole_ids, words
from sprat_controller.cli.client import Api
from sprat_controller.cli.files import read_text
from sprat_controller.cli.output import say
from sprat_controller.cli.settings import (
    Settings,
    checked_token,
    checked_url,
    config_path,
    forget,
    resolve,
    save,
    tls,
)
from sprat_controller.cli.verbs import Session, verb

sessions = typer.Typer(help="Who is signed in, and where.", rich_markup_mode=None)
tokens = typer.Typer(help="Tokens: yours, and those of services.", rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    example = "sprat login https://ctl:7770 --ca ca.pem --token-file admin.token"
    verb(app, "login", example=example)(login)
    verb(app, "logout", example="sprat logout")(logout)
    verb(app, "whoami", example="sprat whoami")(whoami)
    app.add_typer(sessions, name="sessions")
    app.add_typer(tokens, name="tokens")


def login(
    session: Session,
    address: Annotated[str, typer.Argument(metavar="URL", help="https://HOST:PORT")],
    token_file: Annotated[
        Path | None, typer.Option(help="A file that holds the token; - reads standard input.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sign in with a password, for 12 hours.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="A file that holds the password; - reads standard input.")
    ] = None,
    *,
    oidc: Annotated[
        bool, typer.Option("--oidc", help="Sign in at the provider of single sign-on.")
    ] = False,
) -> None:
    """Check an address and who you are, and keep both for later calls."""
    url, ca = checked_url(address), _absolute(_ca_of(session))
    tls(ca)
    if oidc:
        if user or password_file or token_file:
            raise words.wrong("--oidc is by itself: a provider asks who you are, in a browser")
        token = single_sign_on.sign_in(session, Settings(url, "", ca))
    elif user is not None:
        token = _sign_in(session, Settings(url, "", ca), user, password_file)
    elif password_file is not None:
        raise words.wrong("--password-file is for --user NAME: whose password is it?")
    else:
        token = _token(session, token_file)
    settings = Settings(url, token, ca)
    api = Api(settings, session.around.transport)
    try:
        who = api.get("whoami")
    finally:
        api.close()
    save(config_path(session.around.environ), settings)
    session.output.one({"controller": settings.url, **_shown(who)}, who)


def logout(session: Session) -> None:
    """End the session that `sprat login --user` or `--oidc` began, and keep it no longer."""
    flags, environ = session.flags, session.around.environ
    settings = resolve(environ, url=flags.url, token=flags.token, ca=flags.ca)
    session.api.ask("logout")
    forget(config_path(environ), settings)
    said = {"controller": settings.url, "signed_in": False}
    session.output.one(said, said)


def whoami(session: Session) -> None:
    """Show whose token is in use, what they were given, and what the token allows of it."""
    who = session.api.get("whoami")
    session.output.one(_shown(who), who)


@verb(sessions, "list", example="sprat sessions list")
def list_sessions(session: Session) -> None:
    """List your sessions that are not over; for who manages tokens, those of all."""
    items = list(session.api.pages("sessions"))
    columns = (
        *("id", "subject_id", "kind", "authn", "source"),
        *("created_at", "last_used_at", "expires_at"),
    )
    rows = [[item.get(column) for column in columns] for item in items]
    session.output.rows(columns, rows, {"items": items})


@verb(sessions, "revoke", example="sprat sessions revoke 0190c5ad")
def revoke_session(
    session: Session, session_id: Annotated[str, typer.Argument(metavar="ID")]
) -> None:
    """End a session at once."""
    session.api.delete(f"sessions/{words.identifier(session_id, 'a session')}")
    session.output.one({"id": session_id, "revoked": True}, {"id": session_id, "revoked": True})


@verb(tokens, "create", example="sprat tokens create nightly --for ci --role publisher")
def create_token(
    session: Session,
    name: Annotated[str, typer.Argument(help="Which of its owner's tokens it is.")],
    *,
    role: Annotated[str, typer.Option(help="The most that it allows, of what its owner may.")],
    scope: Annotated[str, typer.Option(metavar="FILTER", help="Over which devices; all.")] = "",
    owner: Annotated[
        str | None, typer.Option("--for", metavar="USER", help="Whose it is; default: yours.")
    ] = None,
    expires_days: Annotated[
        int, typer.Option(min=1, max=MAX_LIFETIME.days, help="When it ends.")
    ] = DEFAULT_LIFETIME.days,
) -> None:
    """Make a token; it is shown this once."""
    body: dict[str, object] = {
        "name": words.name(name, "a token's name"),
        "role": words.name(role, "a role"),
        "scope": scope,
        "expires_days": expires_days,
    }
    if owner is not None:
        body["subject"] = users.subject(owner)
    made = session.api.post("tokens", body)
    shown = ("id", "subject_id", "role", "scope", "expires_at", "token")
    session.output.one({name: made.get(name) for name in shown}, made)
    say("This token is shown only once.")


@verb(tokens, "list", example="sprat tokens list")
def list_tokens(session: Session) -> None:
    """List your tokens, without their secrets; for who manages tokens, those of all."""
    items = list(session.api.pages("tokens"))
    columns = (
        *("id", "subject_id", "name", "role", "scope"),
        *("created_at", "expires_at", "last_used_at", "revoked_at"),
    )
    rows = [[item.get(column) for column in columns] for item in items]
    session.output.rows(columns, rows, {"items": items})


@verb(tokens, "revoke", example="sprat tokens revoke 0190c5ad")
def revoke_token(session: Session, token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Make a token worthless at once, and what its owner made with it."""
    token_id = whole_ids.whole(session.api, "tokens", token_id, "a token")
    session.api.delete(f"tokens/{token_id}")
    session.output.one({"id": token_id, "revoked": True}, {"id": token_id, "revoked": True})


def _shown(who: Mapping[str, Any]) -> dict[str, object]:
    """Return who somebody is, in a few words."""
    roles = [f"{one['role']} over {one['scope'] or 'everything'}" for one in who.get("roles", ())]
    if not who.get("token_role"):
        limit = "all that the roles allow"
        return {"name": who.get("subject"), "roles": ", ".join(roles), "session": limit}
    limit = f"{who.get('token_role')} over {who.get('token_scope') or 'everything'}"
    return {"name": who.get("subject"), "roles": ", ".join(roles), "token": limit}


def _sign_in(session: Session, settings: Settings, user: str, file: Path | None) -> str:
    """Begin a session and return its secret."""
    body = {"name": words.name(user, "a user's name"), "password": users.password(file, "Password")}
    api = Api(settings, session.around.transport)
    try:
        return checked_token(str(api.post("login", body).get("token")))
    finally:
        api.close()


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
