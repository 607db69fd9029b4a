"""How far a long verb is: one bar a step for a person, one line a step for a log."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from sprat_controller.cli.output import say
from sprat_controller.publisher.originals import Report


@contextmanager
def progress() -> Generator[Report]:
    """Yield a report that draws one bar per step on standard error, if a person sees it."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def _lines() -> Report:
    """Return a report that says each step once, for a log."""
    said: set[str] = set()

    def report(what: str, done: int, total: int) -> None:
        del done, total
        if what not in said:
            said.add(what)
            say(what)

    return report
