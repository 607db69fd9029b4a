"""Freezing what a rollout would do, collecting approvals of it, and giving them to plans.

A specification is frozen when the rollout is submitted. Any edit freezes it anew, and what was
approved before is forgotten. The envelopes of a rollout become one, with all its signatures, which
travels in each plan that the rollout makes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy
from sprat_proto import approval, canonical, signing
from sprat_proto.approval import Approver, ApproverPolicy, RolloutSpec
from sprat_proto.assignment import spelled, spelled_policy, spelled_windows
from sprat_proto.audit_events import Tag
from sprat_proto.canonical import NotCanonicalError
from sprat_proto.signing import SignatureRefusedError
from sprat_proto.states import ExecutionState, RolloutState
from sqlmodel import Session, col, select

from sprat_controller.access import persons
from sprat_controller.audit import log
from sprat_controller.errors import ConflictError, DeniedError, RefusedError, RequestError
from sprat_controller.rollout import (
    approval_override,
    fit_policy,
    four_eyes,
    serving,
    signed_strategy,
    timing,
)
from sprat_controller.rollout.approval_override import Override, Review
from sprat_controller.rollout.four_eyes import Given
from sprat_controller.rollout.phases import ROLLOUT, RolloutEvent, apply
from sprat_controller.rollout.records import By, move_rollout, strategy_of
from sprat_controller.rollout.requests import ApprovalView, GivenApproval
from sprat_controller.store.tables import Device, Execution, Rollout, RolloutApproval, Variant

# How long after its start a rollout may still reach devices that enforce approvals.
APPROVAL_LIFE: Final = timedelta(days=30)
MAX_GROUPS: Final = 64  # as `approval.RolloutSpec` allows
_KEPT: Final = (
    sqlalchemy.select(col(RolloutApproval.rollout_id), col(RolloutApproval.envelope))
    .where(col(RolloutApproval.rollout_id).in_(sqlalchemy.bindparam("ids", expanding=True)))
    .where(col(RolloutApproval.envelope) != "")
    .order_by(col(RolloutApproval.rollout_id), col(RolloutApproval.given_at))
)


def envelopes(session: Session, rollout_ids: Collection[str]) -> list[str]:
    """Return the approvals of these rollouts as a plan carries them: one envelope for each."""
    rows = session.connection().execute(_KEPT, {"ids": sorted(rollout_ids)}).all()
    signed: dict[str, list[bytes]] = {}
    for rollout_id, envelope in rows:
        signed.setdefault(rollout_id, []).append(envelope.encode())
    return [signing.merge(one).decode() for one in signed.values()]


def is_approved(session: Session, rollout: Rollout, policy: ApproverPolicy) -> bool:
    """Tell whether the rollout may start: nobody need approve it, or enough have."""
    if not four_eyes.rules(policy, _groups(session, rollout)):
        return True
    return _binds_strategy(rollout) and not _missing(session, rollout, policy)


def submit(session: Session, rollout: Rollout, policy: ApproverPolicy, by: By) -> None:
    """Freeze the rollout as it is now and have it wait for approvals of exactly that.

    Raises:
        ConflictError: The rollout's state does not allow it.
        RequestError: It is for more groups than an approval can name.
    """
    session.flush()
    spec = approval.encode(_spec(session, rollout, policy, by.now))
    session.connection().execute(
        sqlalchemy.delete(RolloutApproval).where(col(RolloutApproval.rollout_id) == rollout.id)
    )
    void = approval_override.from_json(rollout.approval_override)
    said = None if void is None else {"void": approval_override.in_words(void)}
    rollout.approval_override = None
    move_rollout(session, rollout, RolloutEvent.SUBMIT, by, said=said, spec=spec, abort=None)


def approve(
    session: Session,
    rollout: Rollout,
    policy: ApproverPolicy,
    given: GivenApproval,
    by: By,
) -> None:
    """Keep an approval of a rollout that is held, and let it go on if that is enough.

    Raises:
        ConflictError: It does not wait for approvals, is no longer what was approved, or its
            specification does not bind its strategy.
        DeniedError: It is the approver's own: asked for or changed last by them.
        RefusedError: The signature is not one of a listed approver over this specification.
    """
    spec = _waiting(rollout)
    if given.spec_sha256 != canonical.sha256_hex(spec):
        raise ConflictError(
            "specification_changed",
            f"rollout {rollout.id} was changed since you looked at it: look again",
            {"expected": canonical.sha256_hex(spec), "found": given.spec_sha256},
        )
    _check_strategy(rollout, spec)
    if _may_be_author(session, rollout, by.actor):
        raise _own(rollout, by.actor, "approve it")
    _check_twice(session, rollout, by.actor)
    asked = four_eyes.rules(policy, _groups(session, rollout))
    signer = _signer(policy, given.envelope, spec) if given.envelope else None
    if signer is None and asked and all(one.approval == "device-enforced" for one in asked):
        raise RefusedError(
            "signature_needed",
            f"expected a signature by an approver's key, which the devices of {asked[0].group}"
            " check themselves, found none: approve it with --key",
        )
    if signer is not None:
        authors = _authors(rollout)
        names = {four_eyes.name_of(persons.person(session, author)) for author in authors}
        if signer.name in names or approval.is_requester(approval.decode(spec), signer):
            raise _own(rollout, f"the approver {signer.name}", "approve it")
        _check_once(session, rollout, signer, by.actor)
    _keep(session, rollout, signer, given.envelope, by)
    if not four_eyes.missing(policy, asked, _given(session, rollout)):
        _go_on(session, rollout, by)


def override(
    session: Session, rollout: Rollout, policy: ApproverPolicy, reason: str, by: By
) -> None:
    """Let a rollout that is held go without the approvals that the controller asks for.

    Raises:
        ConflictError: It does not wait for approvals, or its specification does not bind its
            strategy.
        RefusedError: Devices would not take it: they ask for signatures that are missing.
    """
    spec = _waiting(rollout)
    _check_strategy(rollout, spec)
    asked, given = four_eyes.rules(policy, _groups(session, rollout)), _given(session, rollout)
    unsigned = four_eyes.missing(policy, four_eyes.enforced(asked), given)
    if unsigned:
        raise RefusedError(
            "devices_enforce_approval",
            f"rollout {rollout.id} lacks {', '.join(unsigned)}: devices check these themselves, so"
            " nobody can override them; have it approved with `sprat rollout approve --key`, or"
            " roll out to the other groups alone",
        )
    stands = Override(by.actor, reason, by.now)
    rollout.approval_override = approval_override.to_json(stands)
    rollout.revision += 1
    session.add(rollout)
    frozen = canonical.sha256_hex(spec)
    log.append(
        session,
        by.tag,
        at=by.now,
        actor=by.actor,
        subject=f"rollout/{rollout.id}",
        after=frozen,
        reason="override",
        detail={
            "spec": frozen,
            "reason": reason,
            "missing": list(four_eyes.missing(policy, asked, given)),
            "revision": rollout.revision,
        },
    )
    _go_on(session, rollout, by)


def review(session: Session, rollout: Rollout, said: Review, by: By) -> None:
    """Keep what somebody says of an override afterwards; the rollout stays as it is.

    Raises:
        ConflictError: There is no override, or it was reviewed.
        DeniedError: It is the reviewer's own, or the rollout is: asked for or changed last by them.
    """
    stands = approval_override.from_json(rollout.approval_override)
    if stands is None:
        raise ConflictError(
            "not_overridden",
            f"nobody overrode the approvals of rollout {rollout.id} as it is now: there is nothing"
            " to review",
        )
    if persons.may_be_one(session, by.actor, stands.by, stands.at):
        raise DeniedError(
            "own_override",
            f"{by.actor} may be the same person as {stands.by}, who overrode the approvals of"
            f" rollout {rollout.id}: somebody else must review it",
        )
    if _may_be_author(session, rollout, by.actor):
        raise _own(rollout, by.actor, "review the override")
    if stands.review is not None:
        raise ConflictError(
            "reviewed_already",
            f"{stands.review.by} reviewed the override of rollout {rollout.id} already, and"
            f" {stands.review.verdict} it",
        )
    rollout.approval_override = approval_override.to_json(replace(stands, review=said))
    rollout.revision += 1
    session.add(rollout)
    log.append(
        session,
        by.tag,
        at=by.now,
        actor=by.actor,
        subject=f"rollout/{rollout.id}",
        before="pending",
        after=said.verdict.value,
        detail={"note": said.note, "overridden_by": stands.by, "revision": rollout.revision},
    )


def deny(session: Session, rollout: Rollout, reason: str, by: By) -> None:
    """End a rollout that waits for approvals; its executions are canceled.

    Raises:
        ConflictError: It does not wait for approvals.
    """
    move_rollout(session, rollout, RolloutEvent.DENY, by, said={"reason": reason})


def view(session: Session, rollout: Rollout, policy: ApproverPolicy) -> ApprovalView:
    """Return what is to be approved, who has, and what is missing."""
    rows = session.exec(
        select(RolloutApproval)
        .where(RolloutApproval.rollout_id == rollout.id)
        .order_by(col(RolloutApproval.given_at))
    ).all()
    stands = approval_override.from_json(rollout.approval_override)
    overridden = () if stands is None else (approval_override.in_words(stands),)
    signed = (f"{row.actor} (key of {row.approver})" if row.approver else row.actor for row in rows)
    return ApprovalView(
        rollout_id=rollout.id,
        state=RolloutState(rollout.state),
        spec=rollout.spec.decode() if rollout.spec else None,
        strategy=signed_strategy.document(strategy_of(rollout)).decode(),
        approved_by=(*signed, *overridden),
        missing=_missing(session, rollout, policy),
    )


def _missing(session: Session, rollout: Rollout, policy: ApproverPolicy) -> tuple[str, ...]:
    """Return what it still takes: after an override, only what devices check themselves."""
    asked = four_eyes.rules(policy, _groups(session, rollout))
    stands = approval_override.from_json(rollout.approval_override)
    if stands is not None and not persons.disabled(session, [stands.by]):
        asked = four_eyes.enforced(asked)
    return four_eyes.missing(policy, asked, _given(session, rollout))


def _binds_strategy(rollout: Rollout) -> bool:
    """Tell whether the rollout was frozen as it proceeds now."""
    if rollout.spec is None:
        return False
    spec = approval.decode(rollout.spec)
    return signed_strategy.why_not(spec, strategy_of(rollout)) is None


def _check_strategy(rollout: Rollout, spec: bytes) -> None:
    fault = signed_strategy.why_not(approval.decode(spec), strategy_of(rollout))
    if fault is not None:
        raise ConflictError(
            "strategy_not_bound",
            f"rollout {rollout.id} was frozen with another strategy than it has: {fault}; edit it,"
            " which freezes it anew",
        )


def _spec(session: Session, rollout: Rollout, policy: ApproverPolicy, now: datetime) -> RolloutSpec:
    groups = _groups(session, rollout)
    if len(groups) > MAX_GROUPS:
        raise RequestError(
            "too_many_groups",
            f"expected devices of at most {MAX_GROUPS} groups, found {len(groups)}: roll out to"
            " some of them at a time",
        )
    digests = _digests(session, rollout)
    if not digests:  # which would be an approval to remove the alias
        raise RuntimeError(f"rollout {rollout.id} brings nothing that could be approved")
    requester = four_eyes.name_of(persons.person(session, rollout.created_by))
    keys = [one.key.key_id for one in policy.approvers if one.name == requester]
    ends = max(now, rollout.start_at or now) + APPROVAL_LIFE
    strategy = strategy_of(rollout)
    return RolloutSpec(
        schema=approval.SCHEMA,
        rollout_id=rollout.id,
        alias=rollout.alias,
        digests=digests,
        groups=groups,
        context=rollout.context,
        max_in_progress=strategy.pace.max_in_progress,
        run_until=int(rollout.run_until.timestamp()) if rollout.run_until else 0,
        requested_by=requester,
        requester_key_id=keys[0] if keys else "",
        not_after=int(ends.timestamp()),
        serving=spelled(serving.from_json(rollout.serving)),
        policy=spelled_policy(fit_policy.from_json(rollout.policy)),
        windows=spelled_windows(timing.windows_of(strategy)),
        strategy_sha256=signed_strategy.digest_of(strategy),
    )


def _waiting(rollout: Rollout) -> bytes:
    """Return the frozen specification of a rollout that waits for approvals."""
    state, subject = RolloutState(rollout.state), f"rollout {rollout.id}"
    apply(ROLLOUT, state, RolloutEvent.APPROVE, subject, "rollout_state")
    if rollout.spec is None:
        raise RuntimeError(f"{subject} waits for an approval of nothing")
    return rollout.spec


def _signer(policy: ApproverPolicy, envelope: str, spec: bytes) -> Approver:
    """Return whose one signature the envelope holds.

    Raises:
        RefusedError: It is no signature of one listed approver over the specification.
    """
    try:
        signed, names = approval.signed_by(policy, envelope)
    except (SignatureRefusedError, NotCanonicalError) as error:
        raise RefusedError("approval_refused", str(error)) from error
    if approval.encode(signed) != spec:
        raise RefusedError(
            "approval_refused",
            "expected a signature over the rollout's frozen specification, found one over another:"
            " look at it again",
        )
    if len(names) != 1:
        raise RefusedError(
            "approval_refused", f"expected one signature at a time, found {len(names)}"
        )
    return next(one for one in policy.approvers if one.name == names[0])


def _check_twice(session: Session, rollout: Rollout, actor: str) -> None:
    """Let nobody count for two: not by another account either."""
    for other in _given(session, rollout):
        if other.actor != actor and persons.may_be_one(
            session, other.actor, actor, rollout.created_at
        ):
            raise ConflictError(
                "approved_already",
                f"{other.actor} approved it already, who may be the same person as {actor}",
            )


def _check_once(session: Session, rollout: Rollout, signer: Approver, actor: str) -> None:
    others = select(RolloutApproval.actor).where(
        RolloutApproval.rollout_id == rollout.id,
        RolloutApproval.key_id == signer.key.key_id,
        RolloutApproval.actor != actor,
    )
    other = session.exec(others).first()
    if other is not None:
        raise ConflictError(
            "approved_already", f"the key of {signer.name} approved it already, through {other}"
        )


def _keep(
    session: Session, rollout: Rollout, signer: Approver | None, envelope: str, by: By
) -> None:
    key_id = signer.key.key_id if signer else ""
    session.merge(
        RolloutApproval(
            rollout_id=rollout.id,
            actor=by.actor,
            approver=signer.name if signer else "",
            key_id=key_id,
            envelope=envelope,
            given_at=by.now,
        )
    )
    session.flush()
    approved = canonical.sha256_hex(rollout.spec or b"")
    log.append(
        session,
        by.tag,
        at=by.now,
        actor=by.actor,
        subject=f"rollout/{rollout.id}",
        after=approved,
        detail={"spec": approved, "key": key_id},
    )


def _go_on(session: Session, rollout: Rollout, by: By) -> None:
    """Start the rollout, or have it wait for its time, as it was to be when it was submitted."""
    enough = By(Tag.ROLLOUT_ADMITTED, "planner", by.now)
    move_rollout(session, rollout, RolloutEvent.APPROVE, enough)
    if rollout.start_at is not None:
        move_rollout(session, rollout, RolloutEvent.SCHEDULE, enough)
    else:
        move_rollout(session, rollout, RolloutEvent.START, enough, started_at=by.now)


def _given(session: Session, rollout: Rollout) -> list[Given]:
    """Return what was approved by those who may still be asked: a disabled one's word is gone."""
    rows = session.connection().execute(
        sqlalchemy.select(col(RolloutApproval.actor), col(RolloutApproval.key_id)).where(
            col(RolloutApproval.rollout_id) == rollout.id
        )
    )
    given = [Given(actor, key_id) for actor, key_id in rows]
    gone = persons.disabled(session, [one.actor for one in given])
    return [one for one in given if one.actor not in gone]


def _groups(session: Session, rollout: Rollout) -> list[str]:
    """Return the groups of the devices that the rollout would change, by name."""
    of_devices = (
        sqlalchemy.select(col(Device.group))
        .join(Execution, col(Execution.device_id) == col(Device.id))
        .where(*_changes(rollout), col(Device.group) != "")
    )
    return sorted(session.connection().execute(of_devices.distinct()).scalars())


def _digests(session: Session, rollout: Rollout) -> list[str]:
    """Return what the rollout may bring: any variant, since a device may refuse the chosen one."""
    digests = sqlalchemy.select(col(Variant.digest)).where(
        col(Variant.model) == rollout.model, col(Variant.release) == rollout.release
    )
    return sorted(session.connection().execute(digests).scalars())


def _changes(rollout: Rollout) -> tuple[sqlalchemy.ColumnElement[bool], ...]:
    """Return the condition of executions that are still to bring something."""
    queued = col(Execution.state) == ExecutionState.QUEUED.value
    return (col(Execution.rollout_id) == rollout.id, queued)


def _authors(rollout: Rollout) -> set[str]:
    return {author for author in (rollout.created_by, rollout.edited_by) if author}


def _may_be_author(session: Session, rollout: Rollout, actor: str) -> bool:
    since = rollout.created_at
    return any(persons.may_be_one(session, actor, one, since) for one in _authors(rollout))


def _own(rollout: Rollout, who: str, what: str) -> DeniedError:
    return DeniedError(
        "own_rollout",
        f"{who} asked for the rollout {rollout.id} or changed it last: somebody else must {what}",
    )
