"""What this device was told and how far it came: assignment, executions, committed models.

One step of an execution is one transaction: the phase, its report, its audit record, and for the
last step also what the alias stands for from now on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
from sprat_proto import assignment as assignments
from sprat_proto import canonical
from sprat_proto.assignment import AssignedModel, Assignment
from sprat_proto.audit_events import Tag
from sprat_proto.manifest import Manifest
from sprat_proto.probes import ProbeResult
from sprat_proto.states import ExecutionState
from sprat_proto.trust import custom_of
from sprat_proto.v1 import link_pb2

from sprat_agent.audit.intents import Intents
from sprat_agent.audit.journal import Journal
from sprat_agent.clock import Clock, to_ms
from sprat_agent.state import State
from sprat_agent.sync import phases
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.phases import Event
from sprat_agent.sync.plan import Committed, Execution, Held, Reason
from sprat_agent.sync.proving import Proving


class Ledger:
    """Reads and writes the rows; every method is one transaction."""

    def __init__(self, state: State, journal: Journal, outbox: Outbox, clock: Clock) -> None:
        self._state = state
        self._journal = journal
        self._outbox = outbox
        self._clock = clock
        self.intents = Intents(state, journal)
        # Called with an execution in the phase that it could not complete, and why.
        self.on_failed: Callable[[Execution, Reason], None] = _nothing

    # Reading

    def assignment(self) -> Assignment | None:
        """Return the newest accepted assignment."""
        with self._state.reading() as connection:
            row = connection.execute("SELECT payload FROM assignment").fetchone()
        return assignments.decode(row[0]) if row else None

    def assignment_version(self) -> int:
        """Return the version of the newest accepted assignment; 0 before the first."""
        with self._state.reading() as connection:
            return _version(connection)

    def expires(self) -> datetime | None:
        """Return when the accepted plan expires, in whole seconds; None before the first."""
        with self._state.reading() as connection:
            row = connection.execute("SELECT expires FROM assignment").fetchone()
        return datetime.fromtimestamp(row[0], UTC) if row else None

    def executions(self) -> tuple[Execution, ...]:
        """Return all executions, in the order in which they were queued."""
        with self._state.reading() as connection:
            rows = connection.execute(
                "SELECT id, wanted, context, phase, reason, watched_s FROM execution"
                " ORDER BY number"
            ).fetchall()
        return tuple(
            Execution(
                execution_id=id_,
                wanted=_model(wanted),
                context=context,
                phase=phases.phase_named(phase),
                reason=msgspec.json.decode(reason, type=Reason) if reason else None,
                watched_s=watched_s,
            )
            for id_, wanted, context, phase, reason, watched_s in rows
        )

    def committed(self) -> Mapping[str, Committed]:
        """Return what each alias stands for."""
        with self._state.reading() as connection:
            return _committed(connection)

    def stands_for(self, alias: str) -> str:
        """Return the digest that an alias stands for; "": nothing."""
        found = self.committed().get(alias)
        return found.wanted.digest if found else ""

    def counter_floor(self, name: str) -> int:
        """Return the highest release counter of `publisher/model` ever committed; 0 if none."""
        with self._state.reading() as connection:
            row = connection.execute(
                "SELECT max(release_counter) FROM proved WHERE name = ?", (name,)
            ).fetchone()
        return int(row[0] or 0)

    def was_proved(self, digest: str) -> bool:
        """Tell whether this variant was ever committed here."""
        with self._state.reading() as connection:
            row = connection.execute("SELECT 1 FROM proved WHERE digest = ?", (digest,)).fetchone()
        return row is not None

    # Writing

    def keep_assignment(
        self, connection: sqlite3.Connection, assignment: Assignment, expires: datetime
    ) -> None:
        """Keep an assignment that was found good, in the caller's transaction.

        It takes the place of the one before. One that was only signed anew, to expire later, is
        not audited again.
        """
        is_news = _version(connection) != assignment.version
        connection.execute(
            "INSERT OR REPLACE INTO assignment VALUES (1, ?, ?, ?)",
            (assignment.version, assignments.encode(assignment), int(expires.timestamp())),
        )
        if is_news:
            encoded = assignments.encode(assignment)
            self._journal.write(
                connection,
                Tag.ASSIGNMENT_ACCEPTED,
                f"assignment/{assignment.version}",
                {"sha256": canonical.sha256_hex(encoded), "models": len(assignment.models)},
            )

    def queue(self, wanted: AssignedModel, context: int) -> Execution:
        """Begin to know of an execution."""
        execution = Execution(wanted.execution_id, wanted, context, ExecutionState.QUEUED)
        with self._state.transaction() as connection:
            connection.execute(
                "INSERT INTO execution (id, wanted, context, phase) VALUES (?, ?, ?, ?)",
                (execution.execution_id, canonical.encode(wanted), context, execution.phase),
            )
            self._tell(connection, execution, {})
        self._told()
        return execution

    def step(self, execution: Execution, event: Event, reason: Reason | None = None) -> Execution:
        """End the execution's phase by the event and persist the phase that follows.

        Not for the end of COMMITTING, which is `commit`.
        """
        with self._state.transaction() as connection:
            following = self._step(connection, execution, event, reason)
        self._told()
        if reason:
            self.on_failed(execution, reason)
        return following

    def commit(self, execution: Execution, manifest: Manifest) -> Execution:
        """Complete COMMITTING: from here on the alias stands for the execution's variant."""
        with self._state.transaction() as connection:
            _point(connection, execution)
            connection.execute(
                "INSERT OR REPLACE INTO proved VALUES (?, ?, ?)",
                (execution.wanted.digest, custom_of(manifest).name, manifest.release_counter),
            )
            following = self._step(connection, execution, Event.DONE, None)
        self._told()
        return following

    def resumed(self, execution: Execution) -> None:
        """Record that the agent was restarted in this phase and goes on with it."""
        self._journal.append(
            Tag.EXECUTION_RESUMED,
            f"execution/{execution.execution_id}",
            {"phase": str(execution.phase)},
        )

    def waits(self, execution: Execution, reason: Reason) -> None:
        """Tell why an execution does not go on now; it stays in its phase."""
        state, step = phases.state_of(execution.phase)
        why: dict[str, str] = msgspec.to_builtins(reason)
        now = self._clock()
        with self._state.transaction() as connection:
            committed = _committed(connection).get(execution.wanted.alias)
            report = link_pb2.ExecutionReport(
                execution_id=execution.execution_id,
                state=state,
                step=step or "",
                reason=link_pb2.Reason(**why),
                running_digest=committed.wanted.digest if committed else "",
            )
            self._outbox.write(connection, to_ms(now), report)
            self._journal.write(
                connection,
                Tag.EXECUTION_WAITS,
                f"execution/{execution.execution_id}",
                {"phase": str(execution.phase), "reason": why},
                at=now,
            )
        self._told()

    def goes_on(self, execution: Execution) -> None:
        """Tell that an execution goes on in its phase; that is no news for the audit log."""
        state, step = phases.state_of(execution.phase)
        with self._state.transaction() as connection:
            committed = _committed(connection).get(execution.wanted.alias)
            report = link_pb2.ExecutionReport(
                execution_id=execution.execution_id,
                state=state,
                step=step or "",
                running_digest=committed.wanted.digest if committed else "",
            )
            self._outbox.write(connection, to_ms(self._clock()), report)
        self._outbox.on_ready()

    def proving(self, execution: Execution) -> Proving:
        """Return how far its proof came."""
        with self._state.reading() as connection:
            row = connection.execute(
                "SELECT proving FROM execution WHERE id = ?", (execution.execution_id,)
            ).fetchone()
        return canonical.decode(row[0].encode(), Proving, "proving") if row[0] else Proving()

    def note_proving(self, execution: Execution, proving: Proving, watched_s: int) -> None:
        """Keep how far its proof came, and how much of the soak was watched, in seconds."""
        with self._state.transaction() as connection:
            connection.execute(
                "UPDATE execution SET proving = ?, watched_s = ? WHERE id = ?",
                (canonical.encode(proving).decode(), watched_s, execution.execution_id),
            )

    def note_probe(self, execution: Execution, result: ProbeResult) -> None:
        """Keep and audit what a probe measured; reports say it from now on."""
        with self._state.transaction() as connection:
            connection.execute(
                "UPDATE execution SET probe = ? WHERE id = ?",
                (canonical.encode(result).decode(), execution.execution_id),
            )
            self._journal.write(
                connection,
                Tag.EXECUTION_PROBED,
                f"execution/{execution.execution_id}",
                {"phase": str(execution.phase), "digest": execution.wanted.digest}
                | {"probe": msgspec.to_builtins(result)},
            )
        self._journal.on_append()

    def go_back(self, alias: str, committed: Committed, former: Held) -> None:
        """Let the alias stand for what it stood for before, with nothing before that."""
        with self._state.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO committed VALUES (?, ?, ?, NULL, NULL)",
                (alias, canonical.encode(former.wanted), former.context),
            )
            self._journal.write(
                connection,
                Tag.ALIAS_RETURNED,
                f"alias/{alias}",
                {
                    "from": committed.wanted.digest,
                    "to": former.wanted.digest,
                    "release": former.wanted.release,
                },
            )
        self._journal.on_append()

    def forget(self, alias: str) -> None:
        """Let the alias stand for nothing."""
        with self._state.transaction() as connection:
            was = _committed(connection)[alias].wanted
            connection.execute("DELETE FROM committed WHERE alias = ?", (alias,))
            self._journal.write(
                connection,
                Tag.ALIAS_FORGOTTEN,
                f"alias/{alias}",
                {"model": was.model, "release": was.release, "digest": was.digest},
            )
        self._journal.on_append()

    def _step(
        self,
        connection: sqlite3.Connection,
        execution: Execution,
        event: Event,
        reason: Reason | None,
    ) -> Execution:
        following = replace(
            execution,
            phase=phases.after(execution.phase, event),
            reason=reason or execution.reason,
        )
        updated = connection.execute(
            "UPDATE execution SET phase = ?, reason = ? WHERE id = ? AND phase = ?",
            (
                following.phase,
                msgspec.json.encode(following.reason).decode() if following.reason else None,
                execution.execution_id,
                execution.phase,
            ),
        ).rowcount
        if updated != 1:
            raise AssertionError(
                f"execution {execution.execution_id} is no longer in {execution.phase}"
            )
        self._tell(connection, following, {"after": str(execution.phase), "event": str(event)})
        return following

    def _tell(
        self, connection: sqlite3.Connection, execution: Execution, detail: Mapping[str, object]
    ) -> None:
        """Write the report and the audit record of the phase that the execution is in now."""
        wanted, reason = execution.wanted, execution.reason
        committed = _committed(connection).get(wanted.alias)
        state, step = phases.state_of(execution.phase)
        report = link_pb2.ExecutionReport(
            execution_id=execution.execution_id,
            state=state,
            step=step or "",
            running_digest=committed.wanted.digest if committed else "",
        )
        why: dict[str, str] = {}
        if reason:
            why = msgspec.to_builtins(reason)
            report.reason.CopyFrom(link_pb2.Reason(**why))
        if probe := _probe(connection, execution.execution_id):
            report.probe.CopyFrom(link_pb2.Probe(**msgspec.to_builtins(probe)))
        now = self._clock()
        self._outbox.write(connection, to_ms(now), report)
        self._journal.write(
            connection,
            Tag.EXECUTION_ENTERED,
            f"execution/{execution.execution_id}",
            {"phase": str(execution.phase), "alias": wanted.alias, "digest": wanted.digest}
            | dict(detail)
            | ({"reason": why} if why else {}),
            at=now,
        )

    def _told(self) -> None:
        self._journal.on_append()
        self._outbox.on_ready()


def _nothing(_execution: Execution, _reason: Reason) -> None:
    """Nobody listens yet."""


def _version(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT version FROM assignment").fetchone()
    return int(row[0]) if row else 0


def _probe(connection: sqlite3.Connection, execution_id: str) -> ProbeResult | None:
    row = connection.execute("SELECT probe FROM execution WHERE id = ?", (execution_id,)).fetchone()
    return canonical.decode(row[0].encode(), ProbeResult, "probe") if row and row[0] else None


def _model(data: bytes) -> AssignedModel:
    return canonical.decode(data, AssignedModel, "assigned model")


def _committed(connection: sqlite3.Connection) -> dict[str, Committed]:
    rows = connection.execute(
        "SELECT alias, wanted, context, previous, previous_context FROM committed ORDER BY alias"
    ).fetchall()
    return {
        alias: Committed(
            _model(wanted),
            context,
            None if previous is None else Held(_model(previous), previous_context),
        )
        for alias, wanted, context, previous, previous_context in rows
    }


def _point(connection: sqlite3.Connection, execution: Execution) -> None:
    """Let the alias stand for the execution's variant, remembering the one before."""
    wanted = execution.wanted
    before = _committed(connection).get(wanted.alias)
    previous = before.previous if before else None
    if before and before.wanted.digest != wanted.digest:
        previous = before.held
    connection.execute(
        "INSERT OR REPLACE INTO committed VALUES (?, ?, ?, ?, ?)",
        (
            wanted.alias,
            canonical.encode(wanted),
            execution.context,
            canonical.encode(previous.wanted) if previous else None,
            previous.context if previous else None,
        ),
    )
