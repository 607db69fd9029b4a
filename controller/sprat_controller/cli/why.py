"""Why a device stands where it stands."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from sprat_controller.cli import words
from sprat_controller.cli.verbs import Session, verb

COLUMNS: Final = ("alias", "code", "message", "then", "at", "do")


def add_to(app: typer.Typer) -> None:
    """Add this verb to the command."""
    verb(app, "why", example="sprat why gw-1")(why)


def why(
    session: Session,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="As devices list shows it.")],
    *,
    alias: Annotated[str | None, typer.Option(help="Only under this alias.")] = None,
) -> None:
    """Say why a device runs what it runs, or waits, and what can be done about it."""
    answers = list(session.api.pages(f"devices/{words.device(device)}/why"))
    wanted = None if alias is None else words.name(alias, "an alias")
    # An answer without alias is true of all.
    shown = [one for one in answers if wanted in (None, one.get("alias")) or not one.get("alias")]
    if not shown:
        known = ", ".join(str(one.get("alias")) for one in answers)
        raise words.wrong(f"expected an alias that {device} has ({known}), found {alias!r}")
    rows = [[one.get(column) or None for column in COLUMNS] for one in shown]
    session.output.rows(COLUMNS, rows, {"items": shown})
