"""A refresh of a repository from rows, and what it verified kept as rows again. Blocking.

Floors are compared before anything is kept. What is below one is not kept, but for the roots: they
are a chain that starts at the pinned one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime

from sprat_proto.trust import Repository

from sprat_agent.audit.intents import Effect, Intents
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
    state: State,
    anchor: Anchor,
    source: Source,
    time: Callable[[str], datetime],
    intents: Intents | None = None,
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
            keep_changed(state, anchor, rows, seen.verified(), intents)


def keep_changed(
    state: State,
    anchor: Anchor,
    rows: Sequence[metadata.Row],
    found: Verified,
    intents: Intents | None,
) -> None:
    """Keep what is new of what was verified; that another root is trusted is recorded.

    Args:
        state: Whose rows they are.
        anchor: Of the repository.
        rows: What is kept.
        found: What was verified.
        intents: Where a new root is written down; None: nowhere.
    """
    if not metadata.changed(rows, found.rows):
        return
    before, after = root_version(anchor, rows), root_version(anchor, found.rows)
    repository = anchor.repository
    with (
        intents.around(Effect.ROOT, f"root/{repository}", str(before), str(after))
        if intents and before != after
        else nullcontext(),
        state.transaction() as connection,
    ):
        keep(connection, repository, found)


def root_version(anchor: Anchor, rows: Sequence[metadata.Row]) -> int:
    """Return the version of the newest root among rows, or of the one that was pinned."""
    versions = [row.version for row in rows if row.role == metadata.ROOT]
    return max(versions, default=version_of(anchor.pinned))


def version_of(root: bytes) -> int:
    """Return the version that a root says it has; 0 if it says none."""
    try:
        return int(json.loads(root)["signed"]["version"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0


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
