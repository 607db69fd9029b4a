"""What goes to standard output: a table for a person, tab-separated lines for a pipe, or JSON.

What devices and publishers wrote is shown without control characters, so that it cannot steer a
terminal or break a line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypeAlias, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH: Final = 200  # of a table that was asked for where there is no terminal

Cell: TypeAlias = Any
Row: TypeAlias = Sequence[Cell]


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    TSV = "tsv"
    JSON = "json"


class Output:
    """Standard output in one format; progress and questions go to standard error."""

    def __init__(self, form: Format | None) -> None:
        """Use `form`, else a table on a terminal and tab-separated lines elsewhere."""
        self.form = form or (Format.TABLE if sys.stdout.isatty() else Format.TSV)

    @property
    def is_live(self) -> bool:
        """A person watches: what was printed may be drawn again."""
        return self.form is Format.TABLE and sys.stdout.isatty()

    def rows(self, columns: Sequence[str], rows: Sequence[Row], document: object) -> None:
        """Write a list; `document` is what stands behind it, for JSON."""
        if self.form is Format.JSON:
            self.json(document)
        elif self.form is Format.TSV:
            for row in rows:
                print("\t".join(text(cell) for cell in row))  # noqa: T201 - the command's output
        else:
            console().print(table(columns, rows))

    def one(self, fields: Mapping[str, Cell], document: object) -> None:
        """Write one thing as name and value pairs."""
        if self.form is Format.JSON:
            self.json(document)
        elif self.form is Format.TSV:
            self.rows((), list(fields.items()), document)
        else:
            grid = Table.grid(padding=(0, 2))
            for name, value in fields.items():
                grid.add_row(Text(name, style="bold"), Text(text(value)))
            console().print(grid)

    def json(self, document: object) -> None:
        """Write JSON, on one line unless a person reads it."""
        indent = 2 if sys.stdout.isatty() else None
        print(json.dumps(document, indent=indent, ensure_ascii=False))  # noqa: T201 - output

    def json_line(self, document: object) -> None:
        """Write one line of JSON, at once."""
        print(json.dumps(document, ensure_ascii=False), flush=True)  # noqa: T201 - output


def console() -> Console:
    """Return the console of standard output as it is now."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def table(columns: Sequence[str], rows: Sequence[Row]) -> Table:
    """Return a table that folds what is too long and cuts nothing off."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        made.add_row(*(Text(text(cell)) for cell in row))
    return made


def text(cell: Cell) -> str:
    """Return a value as it is shown, in one line."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, Mapping):
        pairs = cast("Mapping[object, object]", cell).items()
        return ",".join(f"{text(key)}={text(value)}" for key, value in pairs) or "-"
    if isinstance(cell, list | tuple):
        return ",".join(text(value) for value in cast("Sequence[object]", cell)) or "-"
    return "".join(c if c.isprintable() else " " for c in str(cell))


def named(identifier: object, *, simulated: object) -> str:
    """Return a device's name, marked if its hardware is only declared."""
    return f"{identifier} (simulated)" if simulated else str(identifier)


def size(count: int) -> str:
    """Return bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:  # noqa: PLR2004 - the step between binary units
            return f"{amount:.1f} {unit}" if unit != "B" else f"{count} B"
        amount /= 1024
    return f"{amount:.2f} GiB"


def say(message: str) -> None:
    """Tell the person something that is not the result."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - standard error is for people
