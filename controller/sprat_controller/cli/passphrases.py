"""The passphrase of a private key: from a file or the environment, never from the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sprat_controller.cli.exits import CliError
from sprat_controller.cli.files import read_text
from sprat_controller.cli.verbs import Session

PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="A file that holds the key's passphrase (or SPRAT_KEY_PASSPHRASE)."),
]


def passphrase(session: Session, file: Path | None) -> bytes | None:
    """Return the passphrase for a key, from a file or the environment, or None."""
    if file is not None:
        text = read_text(file, "passphrase").rstrip("\r\n")
        if not text:
            raise CliError(f"expected a passphrase in {file}, found nothing")
        return text.encode()
    given = session.around.environ.get("SPRAT_KEY_PASSPHRASE")
    return os.fsencode(given) if given else None
