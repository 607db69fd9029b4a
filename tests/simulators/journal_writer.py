"""A process that appends to a device's journal until it is killed, and says what it has written.

Usage: python -m simulators.journal_writer FOLDER ACKNOWLEDGED

It acknowledges up to a position first, as an agent does that hears it; a line on its output is the
position of a record that is on disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sprat_agent.state import State

from simulators.sealed import journal_of


def main(folder: Path, acknowledged: int) -> None:
    """Append for ever."""
    journal = journal_of(State(folder))
    journal.begin()
    if acknowledged >= journal.oldest_unacknowledged():
        journal.acknowledge(acknowledged)
    while True:
        seq = journal.append("agent:test:written", "test", {"text": "x" * 100})
        sys.stdout.write(f"{seq}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
