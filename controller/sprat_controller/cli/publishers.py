"""Signing keys, which stay here, and the publishers whose public keys the fleet trusts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from sprat_proto.signing import KeyFileError, TrustedKey, check_public_pem

from sprat_controller.cli import words
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.files import read_text
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.registry.signing import generate_key_files

keys = typer.Typer(help="Signing keys on this machine.", rich_markup_mode=None)
publishers = typer.Typer(help="Whose models the fleet may run.", rich_markup_mode=None)

PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="A file that holds the key's passphrase (or SPRAT_KEY_PASSPHRASE)."),
]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(keys, name="keys")
    app.add_typer(publishers, name="publishers")


@verb(keys, "generate", example="sprat keys generate --out me", connects=False)
def generate(
    session: Session,
    out: Annotated[Path, typer.Option(help="Writes OUT.pem (private) and OUT.pub.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a publisher's signing key; the private half never leaves this machine."""
    private, public, key = generate_key_files(out, passphrase(session, passphrase_file))
    made = {"private": str(private), "public": str(public), "key_id": key.key_id}
    session.output.one(made, made)


@verb(publishers, "add", example="sprat publishers add me me.pub")
def add(
    session: Session,
    name: Annotated[str, typer.Argument(help="What people call the publisher.")],
    public: Annotated[Path, typer.Argument(metavar="FILE.pub", help="The public key.")],
) -> None:
    """Let the fleet run what this key signs; devices learn of it when they enrol."""
    pem = read_text(public, "public key")
    if "PRIVATE KEY" in pem:
        raise CliError(f"{public} is a private key, which must stay here: give the .pub file")
    try:
        body = {"name": words.name(name, "a publisher's name"), "public_pem": check_public_pem(pem)}
    except KeyFileError as error:
        raise CliError(f"the key {public}: {error}") from error
    made = session.api.post("publishers", body)
    fields = {"name": name, "key_id": TrustedKey(name, body["public_pem"]).key_id}
    session.output.one(fields, made)


@verb(publishers, "list", example="sprat publishers list")
def list_publishers(session: Session) -> None:
    """List the publishers that the controller knows."""
    items = list(session.api.pages("publishers"))
    columns = ("name", "key_id", "created_at")
    rows = [[item.get(column) for column in columns] for item in items]
    session.output.rows(columns, rows, {"items": items})


def passphrase(session: Session, file: Path | None) -> bytes | None:
    """Return the passphrase for a key, from a file or the environment, or None."""
    if file is not None:
        text = read_text(file, "passphrase").rstrip("\r\n")
        if not text:
            raise CliError(f"expected a passphrase in {file}, found nothing")
        return text.encode()
    given = session.around.environ.get("SPRAT_KEY_PASSPHRASE")
    return os.fsencode(given) if given else None
