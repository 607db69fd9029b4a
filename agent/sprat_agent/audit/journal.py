"""The journal: audit records on disk until the controller has them.

They are the leaves of a Merkle log (RFC 6962). A record gets its position, its seal and its place
in the tree in the transaction that keeps it. What the controller acknowledged is removed; of the
tree its frontier stays, there and at the end, and of the seals the key of the present epoch, so
that the log goes on and nobody can make what was before.

What waits for the controller is bounded by what this device takes on, never by dropping any of it:
at the bound the journal says that it is full, rollouts are refused until the controller has
acknowledged enough (`sync.room`), and what happens here all the same is recorded as before.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, cast

from sprat_proto import audit_seal, device_log, merkle
from sprat_proto.audit_events import Tag
from sprat_proto.audit_seal import KEY_BYTES, SealKey
from sprat_proto.merkle import Frontier

from sprat_agent.audit.record import NO_CHANGE, Change, Ending, Moment, Record, make
from sprat_agent.audit.sealing import Sealing
from sprat_agent.clock import Clock
from sprat_agent.errors import StateError
from sprat_agent.reserve import Reserve
from sprat_agent.state import State

_LOG = logging.getLogger(__name__)

ALIVE_S: Final = 3600.0
_RETRY_S: Final = 5.0
# What may wait in memory while the disk takes nothing; then the oldest are only counted.
_MAX_WAITING: Final = 10_000
# A device whose log is gone works on.
_NO_SEED: Final = bytes(KEY_BYTES)


@dataclass(frozen=True)
class Watch:
    """What says how far to believe the clock.

    Attributes:
        boot_id: Of this start of the agent; "" leaves it out.
        uptime: Seconds since the device started, by a clock that never goes back.
        is_synchronised: Whether something keeps the clock of the wall right.
    """

    boot_id: str
    uptime: Callable[[], float]
    is_synchronised: Callable[[], bool]


UNWATCHED: Final = Watch("", lambda: 0.0, lambda: False)


@dataclass(frozen=True)
class Room:
    """What records may take.

    Attributes:
        full_bytes: Of records that wait for the controller; no rollout begins with more.
        reserve: What gives way to them when the disk is full; None: nothing does.
    """

    full_bytes: int = 64 << 20
    reserve: Reserve | None = None

    @property
    def free_bytes(self) -> int:
        """At so many or fewer, rollouts begin again: not at each acknowledgement, then not."""
        return self.full_bytes * 3 // 4

    @property
    def is_short(self) -> bool:
        """The disk is full, or has just been."""
        return self.reserve is not None and not self.reserve.is_whole


DEFAULT_ROOM: Final = Room()


@dataclass(frozen=True)
class Fill:
    """How full a journal is.

    Attributes:
        kept_bytes: The bodies of the records that are kept.
        is_full: So many that no rollout begins.
        is_short: The disk takes from the reserve, or did when something was last written.
    """

    kept_bytes: int
    is_full: bool
    is_short: bool


class Journal:
    """Appends to the log, and hands it out for upload."""

    def __init__(
        self,
        state: State,
        clock: Clock,
        sealing: Sealing,
        watch: Watch = UNWATCHED,
        room: Room = DEFAULT_ROOM,
    ) -> None:
        self._state = state
        self.room = room
        self._clock = clock
        self._sealing = sealing
        self._watch = watch
        self.on_append: Callable[[], None] = _nothing  # called after each kept transaction

    def begin(self) -> None:
        """Have the key of the first seal on disk; what it was made from is needed no more.

        Raises:
            StateError: It could not be kept.
        """
        with self._state.transaction() as connection:
            self._keep(connection, self._head(connection))
            self._measure(connection)

    def append(self, tag: str, subject: str, detail: Mapping[str, object]) -> int:
        """Keep one record, in a transaction of its own; return its position.

        Raises:
            StateError: It could not be kept.
        """
        with self._state.transaction() as connection:
            seq = self.write(connection, tag, subject, detail)
        self.on_append()
        return seq

    def write(
        self,
        connection: sqlite3.Connection,
        tag: str,
        subject: str,
        detail: Mapping[str, object],
        *,
        at: datetime | None = None,
        ending: Ending | None = None,
        change: Change = NO_CHANGE,
    ) -> int:
        """Keep one record exactly if the caller's open transaction is kept; return its position.

        Args:
            connection: Of the transaction.
            tag: What happened.
            subject: To which thing.
            detail: What else there is to say.
            at: When, if not now.
            ending: How it came out, where the tag does not say; see `record.make`.
            change: Of what, if anything was changed.
        """
        seq = self._append(connection, tag, subject, detail, at=at, ending=ending, change=change)
        self._measure(connection)
        return seq

    def _append(
        self,
        connection: sqlite3.Connection,
        tag: str,
        subject: str,
        detail: Mapping[str, object],
        *,
        at: datetime | None = None,
        ending: Ending | None = None,
        change: Change = NO_CHANGE,
    ) -> int:
        head = self._head(connection)
        seq = head.tree.size + 1
        watch = self._watch
        moment = Moment(
            at or self._clock(),
            watch.is_synchronised(),
            watch.boot_id,
            round(watch.uptime() * 1e9),
        )
        log = self._sealing.device_id
        body = make(
            log,
            seq,
            moment=moment,
            tag=tag,
            subject=subject,
            detail=detail,
            ending=ending,
            change=change,
        )
        leaf = merkle.leaf_hash(body)
        key = head.key.at(seq)
        connection.execute("INSERT INTO audit VALUES (?, ?, ?)", (seq, body, key.seal(leaf)))
        head.tree.append(leaf)
        # The next record's: a key that no record needs any more is never on disk.
        self._keep(connection, _Head(head.tree, key.at(seq + 1)))
        connection.execute("UPDATE audit_head SET kept_bytes = kept_bytes + ?", (len(body),))
        return seq

    def fill(self) -> Fill:
        """Return how full it is now."""
        with self._state.reading() as connection:
            if self.room.reserve:
                self.room.reserve.look()
            found = _fill(connection)
        return replace(found, is_short=self.room.is_short)

    def _measure(self, connection: sqlite3.Connection) -> None:
        """Write down what has become full, or has room again."""
        before, room = _fill(connection), self.room
        kept = before.kept_bytes
        is_full = kept > room.free_bytes if before.is_full else kept >= room.full_bytes
        if is_full is not before.is_full:
            connection.execute("UPDATE audit_head SET is_full = ?", (is_full,))
            tag = Tag.JOURNAL_FULL if is_full else Tag.JOURNAL_FREED
            detail = {"kept_bytes": kept, "bound_bytes": room.full_bytes}
            self._append(connection, tag, "journal", detail)
        if room.reserve and room.is_short is not before.is_short:
            connection.execute("UPDATE audit_head SET is_short = ?", (room.is_short,))
            tag = Tag.RESERVE_GIVEN if room.is_short else Tag.RESERVE_RESTORED
            detail = {
                "free_bytes": room.reserve.free_bytes(),
                "reserve_bytes": room.reserve.size_bytes,
            }
            self._append(connection, tag, "journal", detail)

    def next_seq(self) -> int:
        """Return the position that the next record will have."""
        with self._state.reading() as connection:
            return _size(connection) + 1

    def oldest_unacknowledged(self) -> int:
        """Return the position of the oldest record that is kept, or the next if none is."""
        with self._state.reading() as connection:
            row = connection.execute("SELECT min(seq) FROM audit").fetchone()
            return int(row[0]) if row[0] is not None else _size(connection) + 1

    def batch(self, max_records: int, max_bytes: int) -> list[Record]:
        """Return the oldest records that are kept, in order; at least one if there is one."""
        with self._state.reading() as connection:
            rows = connection.execute(
                "SELECT seq, body, seal FROM audit ORDER BY seq LIMIT ?", (max_records,)
            ).fetchall()
        records: list[Record] = []
        size = 0
        for seq, body, seal in rows:
            size += len(body)
            if records and size > max_bytes:
                break
            records.append(Record(seq, body, seal))
        return records

    def root_at(self, seq: int) -> bytes | None:
        """Return the root of the log up to a position that is not acknowledged, or that last was.

        None if that is no longer, or not yet, in this log.
        """
        with self._state.reading() as connection:
            tree = _tree_at(connection, seq)
        return tree.root() if tree is not None else None

    def checkpoint(self, seq: int) -> str:
        """Return the signed checkpoint of the log up to a position that is kept.

        Raises:
            StateError: It is not kept.
        """
        root = self.root_at(seq)
        if root is None:
            raise StateError(f"expected audit record {seq} to be kept, found it gone")
        return device_log.sign(self._sealing.key, self._sealing.device_id, seq, root)

    def acknowledge(self, up_to: int) -> None:
        """Forget the records up to and including this position: the controller has them.

        Raises:
            StateError: It could not be written, and they will be sent again; or they are not kept.
        """
        with self._state.transaction() as connection:
            tree = _tree_at(connection, up_to)
            if tree is None:
                raise StateError(f"expected audit record {up_to} to be kept, found it gone")
            (freed,) = connection.execute(
                "SELECT coalesce(sum(length(body)), 0) FROM audit WHERE seq <= ?", (up_to,)
            ).fetchone()
            connection.execute("DELETE FROM audit WHERE seq <= ?", (up_to,))
            connection.execute(
                "INSERT INTO audit_acknowledged VALUES (1, ?1, ?2)"
                " ON CONFLICT (only) DO UPDATE SET size = ?1, frontier = ?2",
                (tree.size, bytes(tree)),
            )
            connection.execute("UPDATE audit_head SET kept_bytes = kept_bytes - ?", (freed,))
            self._measure(connection)

    def _head(self, connection: sqlite3.Connection) -> _Head:
        row = connection.execute(
            "SELECT size, frontier, epoch, seal_key FROM audit_head"
        ).fetchone()
        if row is not None:
            return _Head(Frontier.from_bytes(row[0], row[1]), SealKey(row[2], row[3]))
        if self._sealing.seed is None:
            _LOG.error(
                "the audit log of this device was begun once and is gone: it begins anew, under a"
                " key that proves nothing; the controller will notice"
            )
        return _Head(Frontier(), audit_seal.first_key(self._sealing.seed or _NO_SEED))

    def _keep(self, connection: sqlite3.Connection, head: _Head) -> None:
        connection.execute(
            "INSERT INTO audit_head (only, size, frontier, epoch, seal_key)"
            " VALUES (1, ?1, ?2, ?3, ?4) ON CONFLICT (only)"
            " DO UPDATE SET size = ?1, frontier = ?2, epoch = ?3, seal_key = ?4",
            (head.tree.size, bytes(head.tree), head.key.epoch, head.key.key),
        )


@dataclass(frozen=True)
class _Head:
    """The log's end: the tree so far, and the key of the next record's seal."""

    tree: Frontier
    key: SealKey


@dataclass(frozen=True)
class Event:
    """What happened, before it has a position."""

    at: datetime
    tag: str
    subject: str
    detail: Mapping[str, object]


class EventWriter:
    """Takes events without waiting for the disk; a task writes them, many in one transaction.

    An inference must not wait for an SD card. What was noted in the last moment before a power cut
    may be missing; whatever has a position never is. While the disk takes nothing so many wait; of
    older ones it is told how many there were of each tag, and when.
    """

    def __init__(
        self, state: State, journal: Journal, clock: Clock, alive_s: float = ALIVE_S
    ) -> None:
        """Write into the journal; one that was told nothing for `alive_s` says that it is there."""
        self._state = state
        self._journal = journal
        self._alive_s = alive_s
        self._clock = clock
        self._waiting: deque[Event] = deque()
        self._summed: Counter[str] = Counter()
        self._summed_from = self._summed_to = clock()
        self._noted = asyncio.Event()

    def note(self, tag: str, subject: str, detail: Mapping[str, object]) -> None:
        """Have an event written soon; call it in the event loop."""
        if len(self._waiting) >= _MAX_WAITING:
            self._sum_up(self._waiting.popleft())
        self._waiting.append(Event(self._clock(), tag, subject, dict(detail)))
        self._noted.set()

    async def run(self) -> None:
        """Write what is noted, for ever."""
        while True:
            try:
                # Not `wait_for`, which in Python 3.11 may swallow that it was cancelled.
                async with asyncio.timeout(self._alive_s):
                    await self._noted.wait()
            except TimeoutError:
                # A log that says nothing for hours looks like one whose end was cut off.
                self.note(Tag.JOURNAL_ALIVE, "journal", {})
            self._noted.clear()
            events = self._take()
            writing = asyncio.create_task(asyncio.to_thread(self._write, events), name="write")
            try:
                await asyncio.shield(writing)
            except StateError as error:
                _LOG.error("audit cannot be written, trying again in %.0f s: %s", _RETRY_S, error)
                self._put_back(events)
                await asyncio.sleep(_RETRY_S)
                self._noted.set()
            except asyncio.CancelledError:
                # `flush` comes next: what this could not write is not lost to it.
                await asyncio.wait({writing})
                if writing.exception():
                    self._put_back(events)
                raise
            else:
                self._journal.on_append()

    def flush(self) -> None:
        """Write all that was noted, in one transaction, before this returns.

        Raises:
            StateError: It could not be written, and waits on.
        """
        events = self._take()
        try:
            self._write(events)
        except StateError:
            self._put_back(events)
            raise

    def _put_back(self, events: list[Event]) -> None:
        self._waiting.extendleft(reversed(events))

    def _sum_up(self, event: Event) -> None:
        if not self._summed:
            _LOG.error("the disk takes no audit: of the oldest events only the number is kept")
            self._summed_from = event.at
        if event.tag == Tag.JOURNAL_SUMMED:
            self._summed.update(cast("Mapping[str, int]", event.detail["counts"]))
        else:
            self._summed[event.tag] += 1
        self._summed_to = event.at

    def _take(self) -> list[Event]:
        events = list(self._waiting)
        self._waiting.clear()
        if self._summed:
            until = self._summed_to.isoformat(timespec="milliseconds")
            detail = {"counts": dict(self._summed), "until": until}
            events.insert(0, Event(self._summed_from, Tag.JOURNAL_SUMMED, "journal", detail))
            self._summed.clear()
        return events

    def _write(self, events: list[Event]) -> None:
        if not events:
            return
        with self._state.transaction() as connection:
            for event in events:
                self._journal.write(connection, event.tag, event.subject, event.detail, at=event.at)


def _size(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT size FROM audit_head").fetchone()
    return int(row[0]) if row else 0


def _fill(connection: sqlite3.Connection) -> Fill:
    row = connection.execute("SELECT kept_bytes, is_full, is_short FROM audit_head").fetchone()
    kept, is_full, is_short = row or (0, 0, 0)
    return Fill(kept, bool(is_full), bool(is_short))


def _tree_at(connection: sqlite3.Connection, seq: int) -> Frontier | None:
    """Return the tree up to a position, from what was acknowledged on; None: it cannot be had."""
    row = connection.execute("SELECT size, frontier FROM audit_acknowledged").fetchone()
    tree = Frontier.from_bytes(row[0], row[1]) if row else Frontier()
    if tree.size > seq:
        return None
    bodies = connection.execute("SELECT body FROM audit WHERE seq <= ? ORDER BY seq", (seq,))
    for (body,) in bodies:
        tree.append(merkle.leaf_hash(body))
    return tree if tree.size == seq else None


def _nothing() -> None:
    """Nobody listens yet."""
