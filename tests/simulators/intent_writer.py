"""A process that changes a file again and again, each time with an intent and an end, until killed.

Usage: python -m simulators.intent_writer FOLDER

At its start it settles what the one before left open. A line on its output is the position of an
intent whose end is on disk.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from sprat_agent.audit.intents import Effect, Intents
from sprat_agent.state import State

from simulators.sealed import journal_of


def main(folder: Path) -> None:
    """Change the file for ever."""
    state = State(folder)
    journal = journal_of(state)
    journal.begin()
    intents, thing = Intents(state, journal), folder / "thing"
    intents.settle({"thing": lambda _: read(thing)})
    for number in itertools.count(int(read(thing) or 0) + 1):
        intent = intents.begin(Effect.CERTIFICATE, "thing/it", read(thing), str(number))
        new = folder / "new"
        new.write_text(str(number))
        new.replace(thing)
        intents.end(intent)
        sys.stdout.write(f"{intent.seq}\n")
        sys.stdout.flush()


def read(thing: Path) -> str:
    """Return what the file says; nothing if it is not there."""
    return thing.read_text() if thing.exists() else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
