"""What people ask of rollouts: plan, create, approve, start, pause, resume, stop, look.

A rollout is a snapshot: when it is created each device in its target gets an execution with the
variant chosen for it then. Nothing here gives devices work; `runner` does, woken after each change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sprat_proto.approval import ApproverPolicy
from sprat_proto.audit_events import Tag
from sqlmodel import Session

from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.audit import log
from sprat_controller.clock import Clock
from sprat_controller.rollout import (
    approval_override,
    approvals,
    creating,
    edits,
    plan_store,
    reached,
    revisions,
    saved_plans,
    sql_facts,
    verbs,
    views,
)
from sprat_controller.rollout.approval_override import Review, Verdict
from sprat_controller.rollout.approver_policy import PolicySource
from sprat_controller.rollout.phases import (
    ROLLOUT,
    RolloutEvent,
    allowing,
)
from sprat_controller.rollout.plan import Planned
from sprat_controller.rollout.plan_store import Kept, Listed
from sprat_controller.rollout.records import By, hold, move_rollout
from sprat_controller.rollout.requests import (
    ApprovalView,
    ExecutionView,
    GivenApproval,
    PlanRequest,
    RolloutEdit,
    RolloutRequest,
    RolloutView,
    check_edit,
    check_plan,
    check_rollout,
    confined,
    target_from,
    target_json,
)
from sprat_controller.rollout.strategy import ALL_AT_ONCE, Strategy
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Rollout


class RolloutService:
    """Rollouts as operators see them. All methods block."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        new_id: Callable[[], str],
        wake: Callable[[], None],
        policy: PolicySource,
        *,
        scope: Scope = EVERYTHING,
    ) -> None:
        """Keep rollouts in `database`.

        Args:
            database: Where rows are.
            clock: Now.
            new_id: Makes ids of rollouts and executions.
            wake: Called after each change that was committed.
            policy: Says who must approve what.
            scope: See `within`.
        """
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._wake = wake
        self._policy = policy
        self._scope = scope

    def within(self, scope: Scope) -> RolloutService:
        """Return the same for somebody to whom only the devices of a scope are there.

        A rollout is seen that has one of them, as far as it is of them; it is changed by who sees
        all of it; and what is planned or made is never for others.
        """
        around = (self._database, self._clock, self._new_id, self._wake, self._policy)
        return RolloutService(*around, scope=scope)

    def plan(self, request: PlanRequest, strategy: Strategy = ALL_AT_ONCE) -> tuple[Planned, ...]:
        """Return who would get which variant and why; nothing is changed.

        Raises:
            RequestError: Not a possible request.
            NotFoundError: No such model, release or device.
        """
        check_plan(request)
        request = self._confined(request)
        with self._database.reading() as session:
            return tuple(creating.plan(session, request, strategy, self._policy))

    def save_plan(
        self, request: PlanRequest, strategy: Strategy, actor: str
    ) -> tuple[Kept, tuple[Planned, ...]]:
        """Plan, and keep that to be carried out as it is or not at all.

        Args:
            request: What and to whom.
            strategy: How it is to proceed.
            actor: Who, as it stands in the audit log.

        Raises:
            RequestError: Not a possible request, or for too many devices.
            NotFoundError: No such model, release or device.
        """
        now = self._clock()
        check_rollout(RolloutRequest(request, strategy=strategy), now)
        request = self._confined(request)
        with self._database.transaction() as session:
            lines = tuple(creating.plan(session, request, strategy, self._policy))
            rests_on = saved_plans.rests_on(lines)
            kept = Kept(self._new_id(), request, strategy, rests_on, now, actor)
            plan_store.keep(session, kept)
            detail = {
                "release": f"{request.model}@{request.release}",
                "alias": request.alias,
                "devices": len(lines),
                "sha256": saved_plans.digest_of(rests_on),
            }
            subject = f"plan/{kept.id}"
            log.append(
                session,
                Tag.PLAN_SAVED,
                at=now,
                actor=actor,
                subject=subject,
                after=saved_plans.digest_of(rests_on),
                detail=detail,
            )
        return kept, lines

    def saved_plan(self, plan_id: str) -> Kept:
        """Return a plan that was saved.

        Raises:
            NotFoundError: There is none, or no more.
        """
        with self._database.reading() as session:
            return plan_store.find(session, plan_id, self._clock(), self._scope)

    def saved_plans(self, limit: int = 1000) -> tuple[Listed, ...]:
        """Return the newest plans that are kept, newest first."""
        with self._database.reading() as session:
            return plan_store.newest(session, self._clock(), limit, self._scope)

    def create(
        self, request: RolloutRequest, actor: str, *, planned: Kept | None = None
    ) -> RolloutView:
        """Plan and keep a rollout: READY; with a time to start at, SCHEDULED.

        If somebody must approve it, one with a time to start at waits for that first.

        Args:
            request: What and to whom.
            actor: Who, as it stands in the audit log.
            planned: What it must be by now, too; None: whatever it is.

        Raises:
            RequestError: Not a possible request, or nobody is in its target.
            NotFoundError: No such model, release or device.
            ConflictError: It would be something else by now than was planned.
        """
        check_rollout(request, self._clock())
        request = replace(request, plan=self._confined(request.plan))
        with self._database.transaction() as session:
            view = self.create_in(session, request, actor, planned)
        self._wake()
        return view

    def create_in(
        self, session: Session, request: RolloutRequest, actor: str, planned: Kept | None = None
    ) -> RolloutView:
        """Do what `create` does as a part of the caller's transaction.

        Args:
            session: A transaction; whoever made it wakes the scheduler after it.
            request: What and to whom; it was checked.
            actor: Who, as it stands in the audit log.
            planned: As for `create`.

        Raises:
            RequestError: Nobody is in its target.
            NotFoundError: No such model, release or device.
            ConflictError: It would be something else by now than was planned.
        """
        rollout = creating.create(
            session,
            request,
            actor,
            planned,
            policy=self._policy,
            new_id=self._new_id,
            now=self._clock(),
        )
        return views.of(session, rollout)

    # `expected_revision` of the following: what was looked at; None: whatever it is by now.

    def start(
        self, rollout_id: str, actor: str, *, expected_revision: int | None = None
    ) -> RolloutView:
        """Start a rollout now, whatever time it was scheduled for; or once it is approved.

        Raises:
            NotFoundError: No such rollout.
            ConflictError: It was started before, or stopped.
        """
        now = self._clock()

        def begin(session: Session, rollout: Rollout) -> None:
            policy = self._policy(session)
            startable = rollout.state in allowing(ROLLOUT, RolloutEvent.START)
            if startable and not approvals.is_approved(session, rollout, policy):
                rollout.start_at = None
                by = By(Tag.ROLLOUT_SUBMITTED, actor, now)
                approvals.submit(session, rollout, policy, by)
                return
            by = By(Tag.ROLLOUT_STARTED, actor, now)
            move_rollout(session, rollout, RolloutEvent.START, by, started_at=now, abort=None)

        return self._change(rollout_id, begin, expected_revision)

    def edit(
        self,
        rollout_id: str,
        request: RolloutEdit,
        actor: str,
        *,
        expected_revision: int | None = None,
    ) -> RolloutView:
        """Change what of a rollout has not started; what was approved must be approved anew.

        Raises:
            RequestError: Not a possible request, or no possible strategy comes of it.
            NotFoundError: No such rollout.
            ConflictError: What is to change has started, or the rollout is under way and not
                paused, or over; or it was changed meanwhile.
        """
        check_edit(request)
        by = By(Tag.ROLLOUT_EDITED, actor, self._clock())

        def edit(session: Session, rollout: Rollout) -> None:
            # Who changes how it proceeds never has it grow to devices that are not there for them.
            rollout.target = target_json(confined(target_from(rollout.target), self._scope))
            edits.edit(session, rollout, request, self._policy, by)

        return self._change(rollout_id, edit, expected_revision)

    def approve(
        self,
        rollout_id: str,
        given: GivenApproval,
        actor: str,
        *,
        expected_revision: int | None = None,
    ) -> ApprovalView:
        """Approve a rollout that waits for it; when that is enough, it goes on.

        Raises:
            NotFoundError: No such rollout.
            ConflictError: It does not wait for approvals, or was changed meanwhile.
            DeniedError: It is the approver's own.
            RefusedError: The signature is not as it must be.
        """
        by = By(Tag.ROLLOUT_APPROVED, actor, self._clock())

        def approve(session: Session, rollout: Rollout) -> None:
            approvals.approve(session, rollout, self._policy(session), given, by)

        self._change(rollout_id, approve, expected_revision)
        return self.approval(rollout_id)

    def deny(
        self, rollout_id: str, reason: str, actor: str, *, expected_revision: int | None = None
    ) -> RolloutView:
        """End a rollout that waits for approvals.

        Raises:
            NotFoundError: No such rollout.
            ConflictError: It does not wait for approvals, or was changed meanwhile.
        """
        by = By(Tag.ROLLOUT_DENIED, actor, self._clock())
        return self._change(
            rollout_id,
            lambda session, rollout: approvals.deny(session, rollout, reason, by),
            expected_revision,
        )

    def override_approval(
        self, rollout_id: str, reason: str, actor: str, *, expected_revision: int | None = None
    ) -> RolloutView:
        """Let a rollout that waits for approvals go without those that the controller asks for.

        Raises:
            RequestError: The reason does not say why.
            NotFoundError: No such rollout.
            ConflictError: It does not wait for approvals, or was changed meanwhile.
            RefusedError: Devices enforce what is missing.
        """
        why = approval_override.reason(reason)
        by = By(Tag.APPROVAL_OVERRIDDEN, actor, self._clock())

        def override(session: Session, rollout: Rollout) -> None:
            approvals.override(session, rollout, self._policy(session), why, by)

        return self._change(rollout_id, override, expected_revision)

    def review_override(
        self,
        rollout_id: str,
        verdict: Verdict,
        note: str,
        actor: str,
        *,
        expected_revision: int | None = None,
    ) -> RolloutView:
        """Say afterwards what is to be thought of an override; the rollout stays as it is.

        Raises:
            RequestError: The note is no text.
            NotFoundError: No such rollout.
            ConflictError: There is no override, it was reviewed, or was changed meanwhile.
            DeniedError: It is the reviewer's own.
        """
        by = By(Tag.OVERRIDE_REVIEWED, actor, self._clock())
        said = Review(actor, verdict, approval_override.note(note), by.now)
        return self._change(
            rollout_id,
            lambda session, rollout: approvals.review(session, rollout, said, by),
            expected_revision,
        )

    def approvers(self, session: Session) -> ApproverPolicy:
        """Return who may approve, as it is published.

        Raises:
            ConflictError: What is published cannot be read.
        """
        return self._policy(session)

    def approval(self, rollout_id: str) -> ApprovalView:
        """Return what is to be approved of a rollout, who has, and what is missing.

        Raises:
            NotFoundError: No such rollout.
            DeniedError: It has devices outside of the scope.
        """
        with self._database.reading() as session:
            rollout = reached.whole(
                session, session.get(Rollout, rollout_id), rollout_id, self._scope
            )
            return approvals.view(session, rollout, self._policy(session))

    def pause(
        self, rollout_id: str, actor: str, *, expected_revision: int | None = None
    ) -> RolloutView:
        """Give no further device work; those under way go on.

        Raises:
            NotFoundError: No such rollout.
            ConflictError: It is not running.
        """
        by = By(Tag.ROLLOUT_PAUSED, actor, self._clock())
        return self._move(rollout_id, RolloutEvent.PAUSE, by, expected_revision)

    def resume(
        self, rollout_id: str, actor: str, *, expected_revision: int | None = None
    ) -> RolloutView:
        """Go on after a pause; after an abort, only what fails from now on counts for another.

        Raises:
            NotFoundError: No such rollout.
            ConflictError: It is not paused, or was changed meanwhile.
        """
        by = By(Tag.ROLLOUT_RESUMED, actor, self._clock())

        def resume(session: Session, rollout: Rollout) -> None:
            changes: dict[str, Any] = {}
            if rollout.abort is not None and "at" in rollout.abort:
                counted = sql_facts.tallies(session, rollout.id)
                changes["abort"] = sql_facts.resumed(counted, rollout.abort)
            move_rollout(session, rollout, RolloutEvent.RESUME, by, **changes)

        return self._change(rollout_id, resume, expected_revision)

    def promote(
        self, rollout_id: str, group: int, actor: str, *, expected_revision: int | None = None
    ) -> RolloutView:
        """Let the next group start, whatever this one waits for; what is under way in it goes on.

        Args:
            rollout_id: Which.
            group: Its number, from 0.
            actor: Who, as it stands in the audit log.
            expected_revision: See `start`.

        Raises:
            NotFoundError: No such rollout, or no such group of it.
            ConflictError: The group or the rollout has not started, or is through; or it was
                changed meanwhile.
        """
        by = By(Tag.ROLLOUT_PROMOTED, actor, self._clock())
        return self._change(
            rollout_id,
            lambda session, rollout: verbs.promote(session, rollout, group, by),
            expected_revision,
        )

    def retry_failed(
        self, rollout_id: str, actor: str, *, expected_revision: int | None = None
    ) -> RolloutView:
        """Have all that failed, timed out or went back by itself queued again.

        Groups in ERROR stay as they are.

        Raises:
            NotFoundError: No such rollout.
            ConflictError: It has not started or was ended; nothing failed; or it was changed
                meanwhile.
        """
        by = By(Tag.ROLLOUT_RETRIED, actor, self._clock())
        return self._change(
            rollout_id,
            lambda session, rollout: verbs.retry_failed(session, rollout, by),
            expected_revision,
        )

    def roll_back(
        self, rollout_id: str, actor: str, *, expected_revision: int | None = None
    ) -> RolloutView:
        """Take back all that it brought: devices return to what they ran before.

        Raises:
            NotFoundError: No such rollout.
            ConflictError: It is not running, paused or finished; or it was changed meanwhile.
        """
        by = By(Tag.ROLLOUT_ROLLED_BACK, actor, self._clock())
        return self._move(rollout_id, RolloutEvent.ROLL_BACK, by, expected_revision)

    def stop(
        self, rollout_id: str, actor: str, *, expected_revision: int | None = None
    ) -> RolloutView:
        """Cancel all that is unfinished; devices under way return to what they ran before.

        Raises:
            NotFoundError: No such rollout.
            ConflictError: It is over.
        """
        by = By(Tag.ROLLOUT_STOPPED, actor, self._clock())

        def stop(session: Session, rollout: Rollout) -> None:
            # What was met before stays known; but from here on it is a person who ended it.
            abort = {**(rollout.abort or {}), "stopped_by": actor}
            move_rollout(session, rollout, RolloutEvent.STOP, by, abort=abort)

        return self._change(rollout_id, stop, expected_revision)

    def get(self, rollout_id: str) -> RolloutView:
        """Return one rollout.

        Raises:
            NotFoundError: No such rollout.
        """
        with self._database.reading() as session:
            rollout = reached.seen(
                session, session.get(Rollout, rollout_id), rollout_id, self._scope
            )
            return views.of(session, rollout, self._scope)

    def list(
        self, limit: int = 1000, beginning: str = "", *, id_beginning: str = ""
    ) -> tuple[RolloutView, ...]:
        """Return the newest rollouts, newest first, of those whose names and ids begin so."""
        with self._database.reading() as session:
            return views.newest(session, limit, beginning, self._scope, id_beginning=id_beginning)

    def executions(self, rollout_id: str) -> tuple[ExecutionView, ...]:
        """Return the executions of a rollout, in order of position.

        Raises:
            NotFoundError: No such rollout.
        """
        with self._database.reading() as session:
            reached.seen(session, session.get(Rollout, rollout_id), rollout_id, self._scope)
            return views.executions(session, rollout_id, self._scope)

    def _confined(self, request: PlanRequest) -> PlanRequest:
        return replace(request, target=confined(request.target, self._scope))

    def _move(
        self, rollout_id: str, event: RolloutEvent, by: By, expected_revision: int | None
    ) -> RolloutView:
        return self._change(
            rollout_id,
            lambda session, rollout: move_rollout(session, rollout, event, by),
            expected_revision,
        )

    def _change(
        self,
        rollout_id: str,
        change: Callable[[Session, Rollout], object],
        expected_revision: int | None = None,
    ) -> RolloutView:
        """Have one rollout changed in one transaction."""
        with self._database.transaction() as session:
            rollout = reached.whole(session, hold(session, rollout_id), rollout_id, self._scope)
            revisions.check(session, rollout, expected_revision)
            change(session, rollout)
            session.flush()
            view = views.of(session, rollout)
        self._wake()
        return view
