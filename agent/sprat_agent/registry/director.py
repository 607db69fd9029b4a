"""A plan of the director, judged by its signatures and for whom it is. Blocking.

All plans of a fleet are signed by one key, so another device's plan verifies here, too, and may
have a higher version. Nothing of a plan is kept before its device id was compared (Uptane leaves
this open; the device would refuse its own plans as rollbacks from then on). Only roots are kept at
once: they are everybody's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sprat_proto import assignment as assignments
from sprat_proto.assignment import Assignment
from sprat_proto.bundle import OfflineRole, OfflineStatement, RoleError, role_of
from sprat_proto.canonical import NotCanonicalError
from sprat_proto.trust import DIRECTOR
from sprat_proto.v1 import link_pb2

from sprat_agent.audit.intents import Intents
from sprat_agent.registry import metadata, offline
from sprat_agent.registry.floors import Standing, raise_time, time_floor, version_floor
from sprat_agent.registry.metadata import ROOT
from sprat_agent.registry.named import Named
from sprat_agent.registry.refresh import check_floors, keep, keep_changed, roots_of, version_of
from sprat_agent.registry.source import MemorySource, SourceError
from sprat_agent.registry.tuf_client import (
    Anchor,
    Look,
    MetadataRefusedError,
    Verified,
    look,
    named_in,
    pinned_keys,
)
from sprat_agent.state import State

_ASSIGNMENT = "assignment"  # has a floor like a role: its version is the controller's


class PlanRefusedError(Exception):
    """The plan must not be obeyed."""

    def __init__(self, code: str, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.code = code
        self.expected = expected
        self.found = found


@dataclass(frozen=True)
class Plan:
    """A plan that verified and is this device's.

    Attributes:
        assignment: What it assigns.
        version: Of its metadata (TUF's).
        expires: When the first part of its metadata does.
        issued: When it was signed.
        keys: The set of keys that signed it.
        verified: What is kept if it is accepted.
    """

    assignment: Assignment
    version: int
    expires: datetime
    issued: datetime
    keys: str
    verified: Verified


class Director:
    """Judges plans, and reads what was accepted."""

    def __init__(
        self,
        state: State,
        anchor: Anchor,
        device_id: str,
        time: Callable[[datetime | None], datetime],
        intents: Intents | None = None,
    ) -> None:
        """Obey one director.

        Args:
            state: Whose rows hold what was accepted.
            anchor: Where trust begins.
            device_id: Of this device.
            time: Told the time floor, returns the time by which expiry is judged.
            intents: Where it is written down that another root is trusted; None: nowhere.
        """
        self._intents = intents
        self._state = state
        self._anchor = anchor
        self._device_id = device_id
        self._time = time

    def check(self, message: link_pb2.Assignment) -> Plan:
        """Return the plan in the message; its newer roots are kept, the rest is not.

        Raises:
            PlanRefusedError: METADATA_REFUSED, OTHER_DEVICE, ASSIGNMENT_INVALID.
        """
        with self._state.reading() as connection:
            rows = metadata.read(connection, DIRECTOR)
        source = MemorySource(_files(message))
        try:
            with look(self._anchor, rows, source, self._at) as seen:
                try:
                    seen.refresh()
                    check_floors(self._state, DIRECTOR, seen.verified())
                finally:
                    self._keep_roots(roots_of(seen.verified()), rows)
                plan = self._plan(seen)
                self._check_later_than_statement(plan, seen.root_custom)
                return plan
        except (MetadataRefusedError, SourceError) as error:
            raise PlanRefusedError(
                "METADATA_REFUSED", "metadata of the director that verifies", str(error)
            ) from error

    def offline_role(self, roots: Sequence[bytes]) -> OfflineRole | None:
        """Return whose word counts for groups, as the newest root says; newer ones are kept.

        Raises:
            PlanRefusedError: METADATA_REFUSED.
        """
        with self._state.reading() as connection:
            rows = metadata.read(connection, DIRECTOR)
        source = MemorySource({f"{version_of(root)}.root.json": root for root in roots})
        try:
            with look(self._anchor, rows, source, self._at) as seen:
                try:
                    seen.walk()
                finally:
                    self._keep_roots(roots_of(seen.verified()), rows)
                self._check_root_lives(seen)
                return role_of(seen.root_custom)
        except (MetadataRefusedError, SourceError, RoleError) as error:
            raise PlanRefusedError(
                "METADATA_REFUSED", "roots of the director that verify", str(error)
            ) from error

    def now(self) -> datetime:
        """Return the time by which expiry is judged under the newest root."""
        return self._at(self.keys())

    def keys(self) -> str:
        """Return the set of keys that sign plans under the newest root."""
        with self._state.reading() as connection:
            root = metadata.read_role(connection, DIRECTOR, ROOT)
        return pinned_keys(root.data if root else self._anchor.pinned)

    def root_version(self) -> int:
        """Return the version of the newest root."""
        with self._state.reading() as connection:
            root = metadata.read_role(connection, DIRECTOR, ROOT)
        return root.version if root else version_of(self._anchor.pinned)

    def version(self) -> int:
        """Return the TUF version of the accepted plan; 0 before the first."""
        with self._state.reading() as connection:
            targets = metadata.read_role(connection, DIRECTOR, "targets")
        return targets.version if targets else 0

    def named(self, path: str) -> Named | None:
        """Return what the accepted plan says of a path."""
        with self._state.reading() as connection:
            targets = metadata.read_role(connection, DIRECTOR, "targets")
        return named_in(targets.data, path) if targets else None

    def statement(self) -> OfflineStatement | None:
        """Return the offline statement that is obeyed; None while a plan is."""
        with self._state.reading() as connection:
            return offline.read(connection)

    def counter_floor(self, role: OfflineRole) -> int:
        """Return the highest counter of a statement ever taken under these keys; 0: none."""
        with self._state.reading() as connection:
            return offline.counter_floor(connection, role)

    def newest_issued(self) -> int:
        """Return when the newest accepted plan was signed, unix seconds; 0 before the first."""
        with self._state.reading() as connection:
            root = metadata.read_role(connection, DIRECTOR, ROOT)
            keys = pinned_keys(root.data if root else self._anchor.pinned)
            newest = time_floor(connection, keys)
        return int(newest.timestamp()) if newest else 0

    def assignment_floor(self, keys: str) -> int:
        """Return the highest version of an assignment ever accepted under these keys."""
        with self._state.reading() as connection:
            return version_floor(connection, DIRECTOR, _ASSIGNMENT, keys)

    def keep(self, connection: sqlite3.Connection, plan: Plan) -> None:
        """Keep an accepted plan, in the caller's transaction: rows, version floors, time floor."""
        standing = Standing(_ASSIGNMENT, plan.keys, plan.assignment.version)
        verified = Verified(plan.verified.rows, (*plan.verified.standings, standing))
        keep(connection, DIRECTOR, verified)
        raise_time(connection, plan.keys, plan.issued)
        offline.forget(connection)

    def keep_statement(
        self, connection: sqlite3.Connection, statement: OfflineStatement, role: OfflineRole
    ) -> None:
        """Keep an accepted statement, in the caller's transaction, and raise its floors."""
        offline.keep(connection, statement, role)

    def _keep_roots(self, found: Verified, rows: tuple[metadata.Row, ...]) -> None:
        keep_changed(self._state, self._anchor, rows, found, self._intents)

    def _at(self, keys: str) -> datetime:
        with self._state.reading() as connection:
            return self._time(time_floor(connection, keys))

    def _check_root_lives(self, seen: Look) -> None:
        now = self._at(seen.online_keys)
        if seen.root_expires <= now:
            raise MetadataRefusedError(
                "ExpiredMetadataError", f"the root expired at {seen.root_expires}, and it is {now}"
            )

    def _check_later_than_statement(self, plan: Plan, root_custom: object) -> None:
        """Refuse a plan from before the newest statement: it must not take the device back."""
        try:
            role = role_of(root_custom)
        except RoleError:
            return  # nobody may speak offline, and what was said before counts no longer
        if role is None:
            return
        with self._state.reading() as connection:
            floor = offline.issued_floor(connection, role)
        if floor is not None and plan.issued.replace(microsecond=0) <= floor:
            raise PlanRefusedError(
                "VERSION_BACK",
                f"a plan from after the offline statement of {floor.isoformat()}",
                f"one of {plan.assignment.issued}",
            )

    def _plan(self, seen: Look) -> Plan:
        """Compare what verified with this device."""
        try:
            assignment = assignments.from_custom(seen.custom)
            issued = datetime.fromisoformat(assignment.issued)
        except (NotCanonicalError, ValueError) as error:
            raise PlanRefusedError("ASSIGNMENT_INVALID", "an assignment", str(error)) from error
        if assignment.device_id != self._device_id:
            raise PlanRefusedError(
                "OTHER_DEVICE", f"device {self._device_id}", f"device {assignment.device_id}"
            )
        if issued.tzinfo is None:
            raise PlanRefusedError("ASSIGNMENT_INVALID", "a time with its zone", assignment.issued)
        _check_targets(seen, assignment)
        return Plan(
            assignment=assignment,
            version=seen.version,
            expires=seen.expires,
            issued=issued.astimezone(UTC),
            keys=seen.online_keys,
            verified=seen.verified(),
        )


def _check_targets(seen: Look, assignment: Assignment) -> None:
    """Check that the targets are exactly the manifests that the assignment names."""
    if seen.has_delegations:
        raise PlanRefusedError("ASSIGNMENT_INVALID", "no delegations", "delegations")
    aliases = [one.alias for one in assignment.models]
    ids = [one.execution_id for one in assignment.models]
    if len(set(aliases)) < len(aliases) or len(set(ids)) < len(ids):
        raise PlanRefusedError(
            "ASSIGNMENT_INVALID", "each alias and execution once", f"{aliases}, {ids}"
        )
    assigned = {(one.path, one.size, one.digest) for one in assignment.models}
    named = {(one.path, one.length, one.sha256) for one in seen.listed()}
    if assigned != named:
        raise PlanRefusedError(
            "ASSIGNMENT_INVALID",
            f"one target for each assigned manifest: {sorted(assigned)}",
            f"targets {sorted(named)}",
        )


def _files(message: link_pb2.Assignment) -> dict[str, bytes]:
    """Return the parts of a message under the names that they are asked for by."""
    files = {
        "timestamp.json": message.timestamp,
        "snapshot.json": message.snapshot,
        "targets.json": message.targets,
    }
    return files | {f"{version_of(root)}.root.json": root for root in message.roots}
