"""Taking in a plan: only what the director signed for this device, only forward, only approved.

The director's part is judged at once; then the image repository is asked, because it says who may
approve. A network that is away is waited for, and never holds up the conversation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from sprat_proto import approval, canonical
from sprat_proto.assignment import SCHEMA, Assignment
from sprat_proto.audit_events import Tag
from sprat_proto.bundle import OfflineRole, OfflineStatement
from sprat_proto.v1 import link_pb2

from sprat_agent.audit.journal import Journal
from sprat_agent.errors import StateError
from sprat_agent.registry.director import Director, Plan, PlanRefusedError
from sprat_agent.registry.image import ImageRepository
from sprat_agent.registry.offline import issued_at
from sprat_agent.registry.remote import Remote
from sprat_agent.registry.source import SourceError
from sprat_agent.registry.tuf_client import MetadataRefusedError
from sprat_agent.state import State
from sprat_agent.sync.changes import changes
from sprat_agent.sync.ledger import Ledger

_LOG = logging.getLogger(__name__)


_BASE_S: Final = 1.0
_CEILING_S: Final = 300.0


class Intake:
    """Judges plans and keeps the newest; one at a time."""

    def __init__(
        self,
        device_id: str,
        group: str,
        director: Director,
        image: ImageRepository,
        remote: Remote,
        *,
        state: State,
        ledger: Ledger,
        journal: Journal,
        uniform: Callable[[float, float], float],
    ) -> None:
        """Take in plans for one device.

        Args:
            device_id: Of this device.
            group: Pinned at enrolment; whose approvals count is by group.
            director: Judges signatures and device.
            image: Says who may approve.
            remote: In whose threads both are asked.
            state: Where all that is accepted is kept in one transaction.
            ledger: What is committed, and where the assignment is kept.
            journal: Where refusals are audited, once while they are repeated.
            uniform: As `random.uniform`, for the delays while the network is away.
        """
        self._device_id = device_id
        self._group = group
        self._director = director
        self._image = image
        self._remote = remote
        self._state = state
        self._ledger = ledger
        self._journal = journal
        self._uniform = uniform
        self._newest: link_pb2.Assignment | None = None
        self._woken = asyncio.Event()
        self._last_refused: str = ""
        self._last_kept: str = ""
        self.on_kept: Callable[[], None] = _nothing  # called when there is another plan

    def take(self, message: link_pb2.Assignment) -> None:
        """Judge this plan soon, instead of one that still waits; call it in the event loop."""
        self._newest = message
        self._woken.set()

    def hurry(self) -> None:
        """Try again now what waits for the network: the controller is back."""
        self._woken.set()

    async def run(self) -> None:
        """Judge what comes, for ever."""
        failures = 0
        while True:
            await self._wait(failures)
            self._woken.clear()
            message = self._newest
            if message is None:
                continue
            try:
                is_kept = await self.settle(message)
            except (SourceError, StateError) as error:
                failures += 1
                _LOG.info("a plan waits: %s", error)
                continue
            except Exception:  # noqa: BLE001 - a bug may cost the plan, never the device
                failures += 1
                _LOG.exception("a plan waits")
                continue
            failures = 0
            if self._newest is message:
                self._newest = None
            if is_kept:
                self.on_kept()

    async def settle(self, message: link_pb2.Assignment) -> bool:
        """Keep the plan if it is good; tell whether it was news.

        What is refused is audited.

        Raises:
            SourceError: The image repository must be asked first, and cannot be.
            StateError: It could not be kept.
        """
        sha256 = canonical.sha256_hex(message.SerializeToString(deterministic=True))
        if sha256 in {self._last_kept, self._last_refused}:
            return False
        try:
            is_news = await self.keep(message)
        except PlanRefusedError as error:
            self._refuse(sha256, error)
            self._last_refused = sha256
            return False
        self._last_kept = sha256
        self._journal.on_append()
        return is_news

    async def keep(self, message: link_pb2.Assignment) -> bool:
        """Keep the plan if it is good; tell whether it was news.

        Raises:
            PlanRefusedError: It is not; nobody has been told yet.
            SourceError: The image repository must be asked first, and cannot be.
            StateError: It could not be kept.
        """
        return await self._remote.ask(lambda: self._settle_blocking(message))

    async def keep_statement(self, statement: OfflineStatement, role: OfflineRole) -> bool:
        """Keep an offline statement that was judged, once it is approved; tell whether it was news.

        From then on it is the assignment, under its counter as version.

        Raises:
            PlanRefusedError: NOT_APPROVED.
            SourceError: The image repository must be asked first, and cannot be.
            StateError: It could not be kept.
        """
        return await self._remote.ask(lambda: self._settle_statement_blocking(statement, role))

    async def _wait(self, failures: int) -> None:
        """Wait for a plan; while one waits for the network, with jitter up to 1, 2 ... 300 s."""
        if failures == 0:
            await self._woken.wait()
            return
        ceiling = min(_CEILING_S, _BASE_S * 2 ** min(failures - 1, 9))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._uniform(0.0, ceiling)):
                await self._woken.wait()

    def _settle_blocking(self, message: link_pb2.Assignment) -> bool:
        plan = self._director.check(message)
        if self._is_kept(plan):
            return False
        if self._is_news(plan):
            self._check_approved(plan.assignment)
        with self._state.transaction() as connection:
            self._director.keep(connection, plan)
            self._ledger.keep_assignment(connection, plan.assignment, plan.expires)
        _LOG.info("assignment %d accepted", plan.assignment.version)
        return True

    def _settle_statement_blocking(self, statement: OfflineStatement, role: OfflineRole) -> bool:
        if self._director.statement() == statement:
            return False
        issued = issued_at(statement)
        assignment = Assignment(
            schema=SCHEMA,
            device_id=self._device_id,
            version=statement.counter,
            issued=issued.isoformat(),
            models=statement.models,
            policy=statement.policy,
            approvals=statement.approvals,
        )
        self._check_approved(assignment, issued)
        expires = datetime.fromtimestamp(statement.not_after, UTC)
        with self._state.transaction() as connection:
            self._director.keep_statement(connection, statement, role)
            self._ledger.keep_assignment(connection, assignment, expires)
        _LOG.info("offline statement %d accepted", statement.counter)
        return True

    def _is_kept(self, plan: Plan) -> bool:
        return (
            self._ledger.assignment() == plan.assignment
            and self._director.version() == plan.version
        )

    def _is_news(self, plan: Plan) -> bool:
        """Tell whether the plan changes anything but its own expiry.

        Raises:
            PlanRefusedError: VERSION_BACK; ASSIGNMENT_INVALID: the same version says another thing.
        """
        version, floor = plan.assignment.version, self._director.assignment_floor(plan.keys)
        if version < floor:
            raise PlanRefusedError(
                "VERSION_BACK", f"assignment {floor} or newer", f"assignment {version}"
            )
        before = self._ledger.assignment()
        if version > floor or before is None or before.version != version:
            return True
        if _content(before) != _content(plan.assignment):
            raise PlanRefusedError(
                "ASSIGNMENT_INVALID", f"assignment {version} as it was", "other content under it"
            )
        return False

    def _check_approved(self, assignment: Assignment, at: datetime | None = None) -> None:
        """Check that whoever must has approved; `at` is when the image repository is judged.

        Raises:
            PlanRefusedError: NOT_APPROVED.
            SourceError: Who must cannot be learnt now.
        """
        try:
            self._image.refresh(at)
        except MetadataRefusedError as error:
            # Somebody in between; what was verified before still says who may approve.
            _LOG.warning("the image repository: %s", error)
        except SourceError as error:
            _LOG.info("the image repository: %s", error)
        policy = self._image.policy()
        known = frozenset(one.execution_id for one in self._ledger.executions())
        would = changes(assignment, self._ledger.committed(), known)
        now = int(self._director.now().timestamp())
        why = approval.why_not_approved(policy, self._group, would, assignment.approvals, now)
        if why:
            raise PlanRefusedError("NOT_APPROVED", f"approvals of group {self._group}", why)

    def _refuse(self, sha256: str, error: PlanRefusedError) -> None:
        _LOG.warning("an assignment is refused: %s", error)
        self._journal.append(
            Tag.ASSIGNMENT_REFUSED,
            f"device/{self._device_id}",
            {
                "code": error.code,
                "expected": error.expected,
                "found": error.found,
                "sha256": sha256,
            },
        )


def _content(assignment: Assignment) -> tuple[object, ...]:
    """Return what must not change under one version."""
    return assignment.models, assignment.policy


def _nothing() -> None:
    """Nobody listens yet."""
