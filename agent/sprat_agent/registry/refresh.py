"""A refresh of a repository from rows, and what it verified kept as rows again. Blocking.

Floors are compared before anything is kept. What is below one is not kept, but for the roots: they
are a chain that starts at the pinned one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime

from sprat_proto.trust import Repository

from sprat_agent.registry import floors, metadata
from sprat_agent.registry.source import Source
from sprat_agent.registry.tuf_client import (
    Anchor,
    Look,
    MetadataRefusedError,
    Verified,
    look,
)
from sprat_agent.state import State


@contextmanager
def refreshed(
    state: State, anchor: Anchor, source: Source, time: Callable[[str], datetime]
) -> Generator[Look]:
    """Yield a refreshed look; what it verified up to the end of the block is kept.

    That is so when it fails halfway, too: a root or timestamp that was verified counts from then
    on, as TUF's client workflow has it.

    Raises:
        MetadataRefusedError: Something does not verify, or is below a floor.
        SourceError: Something could not be had.
    """
    with state.reading() as connection:
        rows = metadata.read(connection, anchor.repository)
    with look(anchor, rows, source, time) as seen:
        try:
            seen.refresh()
            check_floors(state, anchor.repository, seen.verified())
            yield seen
            # Once more: a publisher's role is only loaded when it is asked for.
            check_floors(state, anchor.repository, seen.verified())
        finally:
            found = seen.verified()
            if metadata.changed(rows, found.rows):
                with state.transaction() as connection:
                    keep(connection, anchor.repository, found)


def check_floors(state: State, repository: Repository, found: Verified) -> None:
    """Refuse what is older than what this device has seen.

    Raises:
        MetadataRefusedError: BadVersionNumberError.
    """
    with state.reading() as connection:
        below = floors.lowered(connection, repository, found.standings)
    if below is None:
        return
    one, floor = below
    raise MetadataRefusedError(
        "BadVersionNumberError",
        f"{one.role} of the {repository} repository has version {one.version}, and this device"
        f" has seen {floor}: refusing to go back",
    )


def keep(connection: sqlite3.Connection, repository: Repository, found: Verified) -> None:
    """Keep what was verified and raise the floors, in the caller's transaction.

    Only the roots, which are a chain from the pinned one, if something is below its floor.
    """
    if floors.lowered(connection, repository, found.standings) is not None:
        found = roots_of(found)
    before = metadata.read(connection, repository)
    metadata.write(connection, repository, metadata.changed(before, found.rows))
    floors.raise_to(connection, repository, found.standings)


def roots_of(found: Verified) -> Verified:
    """Return the roots alone: signed offline, they are everybody's."""
    standings = [one for one in found.standings if one.role == metadata.ROOT]
    return Verified(metadata.only_roots(found.rows), tuple(standings))
