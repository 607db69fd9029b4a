"""Private keys as people name them: a PEM file, or a place in a PKCS#11 token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

# The names below are the library's documented API; it re-exports them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Key, Signer
from sprat_proto.trust import HARDWARE_IDS

from sprat_controller.cli import words
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.files import read_text
from sprat_controller.cli.passphrases import PassphraseFile, passphrase
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.publisher.signing import generate_key_files
from sprat_controller.signer.keys import (
    FILE,
    PKCS11,
    KeyUnusableError,
    Place,
    PrivateKey,
    open_key,
    tuf_key,
    tuf_signer,
)

keys = typer.Typer(help="Signing keys on this machine.", rich_markup_mode=None)
PASSPHRASE: Final = "passphrase"  # noqa: S105 - the name of a file beside keys


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(keys, name="keys")


@verb(keys, "generate", example="sprat keys generate --out me", connects=False)
def generate(
    session: Session,
    out: Annotated[Path, typer.Option(help="Writes OUT.pem (private) and OUT.pub.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a signing key; the private half never leaves this machine."""
    private, public, key = generate_key_files(out, passphrase(session, passphrase_file))
    made = {"private": str(private), "public": str(public), "key_id": key.key_id}
    session.output.one(made, made)


def open_signer(key: Path | str, secret: bytes | None) -> Signer:
    """Return what signs metadata with a key file or a `pkcs11:` key; see `open_private`."""
    return tuf_signer(open_private(key, secret))


def open_private(key: Path | str, secret: bytes | None) -> PrivateKey:
    """Return the private key of a key file or a `pkcs11:` key.

    A `passphrase` beside the file is taken where none was given.

    Raises:
        CliError: It cannot be used.
    """
    text = str(key)
    if text.startswith(PKCS11):
        place = Place(text, Path(), secret)
    else:
        path = Path(text).absolute()
        beside = path.with_name(PASSPHRASE)
        if secret is None and beside.is_file():
            secret = read_text(beside, PASSPHRASE).strip().encode()
        place = Place(f"{FILE}{path.name}", path.parent, secret)
    try:
        return open_key(place)
    except KeyUnusableError as error:
        raise CliError(str(error)) from error


def read_public(path: Path) -> Key:
    """Return a public key file as a key of metadata.

    Raises:
        CliError: It is none.
    """
    pem = read_text(path, "public key")
    if "PRIVATE KEY" in pem:
        raise CliError(f"{path} is a private key, which must stay where it is: give the .pub file")
    try:
        return tuf_key(pem)
    except KeyUnusableError as error:
        raise CliError(f"the key {path}: {error}") from error


def hardware_ids(given: Sequence[str] | None) -> list[str]:
    """Check the hardware ids that were given."""
    for one in given or []:
        if one not in HARDWARE_IDS:
            raise words.wrong(f"expected hardware of {', '.join(HARDWARE_IDS)}, found {one!r}")
    return list(given or [])
