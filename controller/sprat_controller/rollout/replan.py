"""What follows when a device refuses its variant by its own facts: the next one, or none.

The device is judged anew with what it told last; what it refused itself is out of the question for
the rest of the rollout, so there are at most as many attempts as variants, whatever it says. Where
approvers signed a specification, only what they signed comes into question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy
from sprat_proto import approval, fit
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState, ReasonCode
from sqlmodel import Session, col

from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.rollout import fit_policy, serving, signed_strategy, targets
from sprat_controller.rollout.assign import ACTOR
from sprat_controller.rollout.phases import ExecutionEvent
from sprat_controller.rollout.plan import Planned, Reason, plan_device, verdict_json
from sprat_controller.rollout.records import By, Run, move_execution, strategy_of
from sprat_controller.rollout.requests import PlanRequest, Target
from sprat_controller.store.tables import Execution, Rollout

Json = Mapping[str, Any]

# What `fit.judge` says of a variant that does not fit: another one of the release may.
_DOES_NOT_FIT: Final = frozenset(
    {
        ReasonCode.WRONG_HARDWARE,
        ReasonCode.RUNTIME_MISSING,
        ReasonCode.INSUFFICIENT_MEMORY,
        ReasonCode.INSUFFICIENT_DISK,
        ReasonCode.OVER_MEMORY_LIMIT,
        ReasonCode.CONTEXT_TOO_SHORT,
        ReasonCode.RUNTIME_NOT_ALLOWED,
        ReasonCode.LICENCE_NOT_ALLOWED,
        ReasonCode.QUALITY_TOO_LOW,
        ReasonCode.QUALITY_UNKNOWN,
        ReasonCode.TOO_SLOW,
        ReasonCode.ANSWERS_TOO_LATE,
        ReasonCode.RATE_UNKNOWN,
    }
)


def rejected(
    session: Session, rollout: Rollout, run: Run, reason: Reason | None, by: By
) -> ExecutionState | None:
    """Have a device that refused its variant wait for the next one, or end without any.

    Args:
        session: A transaction in which the rollout is held.
        rollout: The run's.
        run: What the device refused, IN_PROGRESS.
        reason: As the device said it.
        by: The device, and when.

    Returns:
        QUEUED or REJECTED; None if the run is no longer what it was.
    """
    if reason is None or reason.code not in _DOES_NOT_FIT:
        return move_execution(session, run, ExecutionEvent.REJECT, by, reason=reason)
    known = refused(_verdicts(session, run), run.digest, reason)
    line, otherwise = _decide(session, rollout, run, known)
    changes: dict[str, Any] = {"verdicts": merged(known, line)}
    if line is None or line.digest is None:
        none = _none_left(changes["verdicts"], otherwise)
        return move_execution(session, run, ExecutionEvent.REJECT, by, reason=none, changes=changes)
    changes |= _anew(run, line.digest)
    said = {
        "attempt": run.attempt,
        "refused": run.digest,
        "because": reason.as_json(),
        "next": line.digest,
    }
    by = replace(by, tag=Tag.EXECUTION_REPLANNED, actor=ACTOR)
    return move_execution(session, run, ExecutionEvent.REPLAN, by, changes=changes, said=said)


def refused(verdicts: Sequence[Json], digest: str | None, reason: Reason) -> list[Json]:
    """Return the verdicts with the device's own on one variant, by its own numbers. Pure."""
    own = {
        "fits": False,
        **reason.as_json(),
        "message": f"refused by the device: {reason.message}",
        "by_device": True,
    }
    return [{**one, **own} if one["digest"] == digest else one for one in verdicts]


def merged(known: Sequence[Json], line: Planned | None) -> list[Json]:
    """Return what was judged anew, and the device's own verdicts as they were. Pure.

    The order is that of the first decision. What is chosen is always among them.
    """
    anew = {one.digest: verdict_json(one) for one in line.verdicts} if line else {}
    before = {one["digest"]: one if _is_own(one) else anew.get(one["digest"], one) for one in known}
    return [*before.values(), *(anew[digest] for digest in anew if digest not in before)]


def _is_own(verdict: Json) -> bool:
    return bool(verdict.get("by_device"))


def _decide(
    session: Session, rollout: Rollout, run: Run, known: Sequence[Json]
) -> tuple[Planned | None, str]:
    """Return the decision on the device as it is now, and why nothing else comes, if so."""
    request = PlanRequest(
        rollout.model,
        rollout.release,
        rollout.alias,
        Target(devices=(run.device_id,)),
        rollout.context,
        serving.from_json(rollout.serving),
        fit_policy.from_json(rollout.policy),
    )
    try:
        variants = targets.candidates(session, request.model, request.release)
        (device,) = targets.devices(session, request, ())
    except (ConflictError, NotFoundError) as error:
        # Its publisher retired the release, say: what the device refused is refused all the same.
        return None, error.message
    left = _in_question(variants, rollout, known)
    # That its agent understands an approval was seen when it was planned.
    proceeding = signed_strategy.proceeding(strategy_of(rollout))
    line = plan_device(
        device, left, request.context, request.terms, request.policy, proceeding=proceeding
    )
    return line, line.reason.message if left and line.reason else ""


def _in_question(
    variants: Sequence[fit.Candidate], rollout: Rollout, known: Sequence[Json]
) -> list[fit.Candidate]:
    out = {one["digest"] for one in known if _is_own(one)}
    approved = None if rollout.spec is None else set(approval.decode(rollout.spec).digests)
    return [
        one
        for one in variants
        if one.digest not in out and (approved is None or one.digest in approved)
    ]


def _anew(run: Run, digest: str) -> dict[str, Any]:
    """Return what is different of an execution that waits again, for another variant."""
    return {
        "digest": digest,
        "attempt": run.attempt + 1,
        "tries": 0,
        "started_at": None,
        "step_since": None,
        "deadline_at": None,
    }


def _none_left(verdicts: Sequence[Json], otherwise: str) -> Reason:
    """Return why the device gets nothing: all that it refused, and why nothing else came."""
    own = [f"{one['variant']}: {one['message']}" for one in verdicts if _is_own(one)]
    rest = f"; beside these, {otherwise}" if otherwise else ""
    return Reason(
        ReasonCode.NO_VARIANT_FITS,
        f"{len(own)} of {len(verdicts)} variants were tried ({'; '.join(own)}){rest}",
    )


def _verdicts(session: Session, run: Run) -> Sequence[Json]:
    found = sqlalchemy.select(col(Execution.verdicts)).where(col(Execution.id) == run.id)
    return session.connection().execute(found).scalar_one()
