"""Reports for those who ask for evidence."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import IO, Annotated, Final

import msgspec
import typer

from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.output import Cell
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.report.frameworks import Framework

ZIP: Final = "application/zip"
_REPORT: Final = "report.json"


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    verb(app, "report", example="sprat report iso-27001 --since 2026-01-01T00:00:00Z --out q1")(
        report
    )


def report(
    session: Session,
    framework: Annotated[Framework, typer.Argument(metavar="FRAMEWORK", help="What it is for.")],
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to: a new folder, or a file NAME.zip.")
    ],
    since: Annotated[str | None, typer.Option(help="RFC 3339: only from then on.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339: only before then.")] = None,
    device: Annotated[str | None, typer.Option(help="Only what concerns it.")] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="Only what concerns these: site = lyon.")
    ] = None,
) -> None:
    """Write a report from the audit logs: a page, the same as JSON, and the proof."""
    is_file = out.suffix == ".zip"
    try:
        if out.exists() and (is_file or not out.is_dir() or any(out.iterdir())):
            raise CliError(f"{out} is there already: name a new one", Exit.CONFLICT)
        with tempfile.TemporaryFile(dir=out.parent) as file:
            params = {"since": since, "until": until, "device": device, "filter": filter_}
            for chunk in session.api.lines(f"reports/{framework}", params, ZIP):
                file.write(chunk)
            made = _read(file)
            if is_file:
                file.seek(0)
                out.write_bytes(file.read())
            else:
                _unpack(file, out)
    except OSError as error:
        raise CliError(f"the report cannot be written to {out}: {error.strerror}") from error
    rows: list[list[Cell]] = [
        [one["clause"], one["about"], one["statements"]] for one in made["clauses"]
    ]
    told: Json = {"out": str(out), "framework": framework.value, "clauses": made["clauses"]}
    session.output.rows(("clause", "about", "statements"), rows, told)


def _read(file: IO[bytes]) -> Json:
    """Return what the report says."""
    try:
        with zipfile.ZipFile(file) as made:
            return msgspec.json.decode(made.read(_REPORT), type=Json)
    except (zipfile.BadZipFile, KeyError, msgspec.DecodeError) as error:
        raise CliError(f"expected a report from the controller, found another file: {error}") from (
            error
        )


def _unpack(file: IO[bytes], out: Path) -> None:
    # zipfile leaves no name outside of the folder.
    with zipfile.ZipFile(file) as made:
        made.extractall(out)
