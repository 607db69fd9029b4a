"""How the demo tells its story: to a person, or as JSON lines to a program."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table


class Reporter(Protocol):
    """Where the story goes."""

    def chapter(self, title: str) -> None:
        """Begin the next part."""
        ...

    def say(self, text: str) -> None:
        """Explain something to a person."""
        ...

    def show(self, line: str) -> None:
        """Give a line to be copied: whole and as it is, however narrow the terminal."""
        ...

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show facts side by side."""
        ...

    def result(self, step: str, *, ok: bool, facts: Mapping[str, Any]) -> None:
        """State whether a step did what it must, with the evidence."""
        ...


class Headless:
    """One JSON object a line: `{"step", "ok", "seconds", ...facts}`."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def chapter(self, title: str) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def show(self, line: str) -> None:
        """Say nothing."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Say nothing: the facts are in the results."""

    def result(self, step: str, *, ok: bool, facts: Mapping[str, Any]) -> None:
        """Print the line."""
        seconds = round(time.monotonic() - self._start, 1)
        print(json.dumps({"step": step, "ok": ok, "seconds": seconds, **facts}), flush=True)


class Terminal:
    """For a person."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._start = time.monotonic()

    def chapter(self, title: str) -> None:
        """Print a rule with the title."""
        self._console.print()
        self._console.rule(f"[bold]{title}[/bold]", align="left")

    def say(self, text: str) -> None:
        """Print a paragraph."""
        self._console.print(text)

    def show(self, line: str) -> None:
        """Print it without a break."""
        self._console.print(line, soft_wrap=True, markup=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def result(self, step: str, *, ok: bool, facts: Mapping[str, Any]) -> None:
        """Print a mark, the step and how long the demo has run."""
        mark = "[green]✔[/green]" if ok else "[red]✘[/red]"
        seconds = time.monotonic() - self._start
        name = step.replace("_", " ")
        self._console.print(f"{mark} {name}  [dim]{seconds:.0f} s[/dim]")
        if not ok:
            self._console.print_json(data=dict(facts))
