"""A claim token on its way to a device: as a picture to scan, or as a file in an image.

Both hold the secret: they are written for their owner only, and never over another file.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Final

import segno

from sprat_controller.cli.exits import CliError, Exit

PICTURES: Final = (".svg", ".png")
_SCALE: Final = 6  # pixels of a PNG, or units of an SVG, for one module


def check_new(path: Path | None, what: str) -> None:
    """Check that a file can be made, before a token is made for it.

    Raises:
        CliError: There is one already, or no folder for it.
    """
    if path is not None and path.exists():
        raise CliError(f"{path} is there already: choose another name for {what}")
    if path is not None and not path.parent.is_dir():
        raise CliError(f"there is no folder {path.parent} for {what}")


def check_picture(path: Path | None) -> None:
    """Check the name of a picture.

    Raises:
        CliError: Neither an SVG nor a PNG, or it cannot be made.
    """
    if path is not None and path.suffix.lower() not in PICTURES:
        raise CliError(f"expected --qr FILE.svg or FILE.png, found {path.name!r}", Exit.USAGE)
    check_new(path, "the QR code")


def picture(token: str, path: Path) -> bytes:
    """Return the QR code of a token as the picture that the file's name says."""
    made = io.BytesIO()
    kind = path.suffix.lower().removeprefix(".")
    segno.make_qr(token).save(made, kind=kind, scale=_SCALE)
    return made.getvalue()


def drawing(token: str) -> str:
    """Return the QR code of a token for a terminal."""
    made = io.StringIO()
    segno.make_qr(token).terminal(made, compact=True)
    return made.getvalue()


def write_new(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads.

    Raises:
        CliError: It cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}") from error
