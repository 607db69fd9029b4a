"""From a request to what the plan needs: the variants of a release, and facts of each device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy
from sprat_proto import fit, manifest
from sprat_proto.assignment import ServingTerms
from sprat_proto.candidates import candidate_of
from sprat_proto.rates import Rates
from sprat_proto.states import ExecutionState
from sqlmodel import Session, col

from sprat_controller.errors import ConflictError, NotFoundError
from sprat_controller.fleet import observed_rates, target_filter
from sprat_controller.fleet.filters import queries
from sprat_controller.fleet.filters.fields import SITE
from sprat_controller.rollout import fit_policy, hardware, serving
from sprat_controller.rollout.grouping import Member
from sprat_controller.rollout.plan import Bound, DeviceFacts, Newer
from sprat_controller.rollout.records import UNFINISHED
from sprat_controller.rollout.requests import PlanRequest, Target
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import (
    DesiredModel,
    Device,
    DeviceLabel,
    Execution,
    Release,
    Rollout,
    Variant,
)

_NAMED: Final = 5  # missing devices that an error names


@dataclass(frozen=True)
class _Held:
    """A variant that another alias of a device is bound to."""

    digest: str
    context: int  # tokens
    terms: ServingTerms


@dataclass
class _Desired:
    """The desired rows of one device."""

    bound: Bound | None = None
    others: list[_Held] = field(default_factory=list[_Held])


def candidates(session: Session, model: str, release: str) -> list[fit.Candidate]:
    """Return all variants of a release.

    Raises:
        NotFoundError: No such model, or no such release of it.
        ConflictError: Its publisher retired it.
    """
    row = session.get(Release, (model, release))
    if row is not None and row.retired_at is not None:
        raise ConflictError(
            "release_retired",
            f"{model}@{release} was retired by its publisher: devices activate it no more",
        )
    rows = _variants(session, (col(Variant.model) == model) & (col(Variant.release) == release))
    if rows:
        return list(rows.values())
    known = (
        session.connection()
        .execute(
            sqlalchemy.select(col(Variant.release)).where(col(Variant.model) == model).distinct()
        )
        .scalars()
    )
    releases = ", ".join(sorted(known))
    if not releases:
        raise NotFoundError(
            "model_not_found", f"there is no model {model!r}: push a release of it first"
        )
    raise NotFoundError(
        "release_not_found", f"model {model!r} has no release {release!r}, it has {releases}"
    )


def devices(
    session: Session, request: PlanRequest, enforcing: Collection[str]
) -> list[DeviceFacts]:
    """Return what the plan must know of each device that is in, in order of name.

    Args:
        session: Of the database.
        request: What and to whom.
        enforcing: Groups whose devices check approvals themselves.

    Raises:
        NotFoundError: A device that is named does not exist (any more).
    """
    _check_names(session, request.target)
    who = _who(session, request.target)
    desired = _desired(session, who, request.alias)
    needs = _needs(session, desired)
    observed = observed_rates.of_release(session, request.model, request.release)
    newer = _newer(session, who, request)
    rows = session.connection().execute(
        sqlalchemy.select(
            col(Device.id),
            col(Device.profile),
            col(Device.hardware_class),
            col(Device.running),
            col(Device.capability),
            col(Device.group),
        )
        .where(who)
        .order_by(col(Device.id))
    )
    return [
        _facts(
            (device_id, profile, hardware_class, running.get(request.alias), capability),
            desired.get(device_id, _Desired()),
            needs,
            observed.get(hardware_class or "", {}),
            enforces_approval=group in enforcing,
            newer=newer.get(device_id),
        )
        for device_id, profile, hardware_class, running, capability, group in rows
    ]


def members(session: Session, target: Target, device_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the devices that are in the target now."""
    among = sqlalchemy.select(col(Device.id)).where(
        col(Device.id).in_(device_ids), _who(session, target)
    )
    return frozenset(session.connection().execute(among).scalars())


def having(session: Session, rollout_id: str, device_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the devices that a rollout has an execution for."""
    found = sqlalchemy.select(col(Execution.device_id)).where(
        col(Execution.rollout_id) == rollout_id, col(Execution.device_id).in_(device_ids)
    )
    return frozenset(session.connection().execute(found).scalars())


def outside(session: Session, target: Target, rollout_id: str, limit: int) -> tuple[str, ...]:
    """Return the first devices in the target, by name, that a rollout has no execution for.

    Those that have not told their hardware yet are left out: nothing can be chosen for them.
    """
    has_one = sqlalchemy.exists(
        sqlalchemy.select(sqlalchemy.literal(1))
        .select_from(Execution.metadata.tables["execution"])
        .where(col(Execution.rollout_id) == rollout_id, col(Execution.device_id) == col(Device.id))
    )
    found = session.connection().execute(
        sqlalchemy.select(col(Device.id))
        .where(
            _who(session, target), col(Device.hardware_class).is_not(None), sqlalchemy.not_(has_one)
        )
        .order_by(col(Device.id))
        .limit(limit)
    )
    return tuple(found.scalars())


def grouped(session: Session, target: Target, strategy: Strategy) -> list[Member]:
    """Return the devices in a target as `grouping.split` wants them, in order of name.

    What filters ask is read only if a group has one: for a million devices it is much.
    """
    who = _who(session, target)
    if any(group.filter for group in strategy.groups):
        return [
            Member(facts.device, facts.hardware_class, facts.site, facts)
            for facts in queries.facts(session, who)
        ]
    at_site = (col(DeviceLabel.device_id) == col(Device.id)) & (col(DeviceLabel.key) == SITE)
    rows = session.connection().execute(
        sqlalchemy.select(col(Device.id), col(Device.hardware_class), col(DeviceLabel.value))
        .outerjoin(DeviceLabel, at_site)
        .where(who)
        .order_by(col(Device.id))
    )
    return [Member(device, hardware or "", site or "") for device, hardware, site in rows]


def _facts(
    row: tuple[str, Mapping[str, Any] | None, str | None, Mapping[str, str] | None, int],
    desired: _Desired,
    needs: Mapping[_Held, int],
    observed: Mapping[str, Rates],
    *,
    enforces_approval: bool,
    newer: Newer | None,
) -> DeviceFacts:
    device_id, profile, hardware_class, running, capability = row
    return DeviceFacts(
        device_id=device_id,
        profile=None if profile is None else hardware.from_json(profile),
        hardware_class=hardware_class,
        desired=desired.bound,
        running_digest=running["digest"] if running else None,
        running_name=_name(running) if running else None,
        reserved_bytes=sum(needs[other] for other in desired.others),
        capability=capability,
        enforces_approval=enforces_approval,
        newer=newer,
        observed=observed,
    )


def _newer(
    session: Session, who: sqlalchemy.ColumnElement[bool], request: PlanRequest
) -> Mapping[str, Newer]:
    """Return, by device, what it proved of releases that came after the one that is asked for.

    Only what rollouts brought is known, and by the same publisher, as devices count: what a bundle
    brought, devices find themselves. A name is never given to another device.
    """
    asked = session.get(Release, (request.model, request.release))
    if asked is None:
        return {}
    of_asked = sqlalchemy.select(col(Variant.publisher)).where(
        col(Variant.model) == request.model, col(Variant.release) == request.release
    )
    later: dict[str, tuple[int, str]] = {
        digest: (counter, f"{request.model}@{release}")
        for digest, counter, release in session.connection().execute(
            sqlalchemy.select(col(Variant.digest), col(Release.counter), col(Release.release))
            .join(
                Release,
                (col(Release.model) == col(Variant.model))
                & (col(Release.release) == col(Variant.release)),
            )
            .where(
                col(Variant.model) == request.model,
                col(Release.counter) > asked.counter,
                col(Variant.publisher).in_(of_asked),
            )
        )
    }
    if not later:
        return {}
    is_in = col(Execution.device_id).in_(sqlalchemy.select(col(Device.id)).where(who))
    proved = session.connection().execute(
        sqlalchemy.select(col(Execution.device_id), col(Execution.digest))
        .where(
            col(Execution.rollout_id).in_(_rollouts_of(request.model)),
            col(Execution.state) == ExecutionState.SUCCEEDED.value,
            col(Execution.digest).in_(later),
            is_in,
        )
        .distinct()
    )
    latest: dict[str, tuple[int, str]] = {}
    for device_id, digest in proved:
        latest[device_id] = max(later[str(digest)], latest.get(device_id, (0, "")))
    if not latest:
        return {}
    had = _had(session, request, is_in)
    return {
        device_id: Newer(name, counter, asked.counter, frozenset(had.get(device_id, ())))
        for device_id, (counter, name) in latest.items()
    }


def _rollouts_of(model: str) -> sqlalchemy.Select[str]:
    return sqlalchemy.select(col(Rollout.id)).where(col(Rollout.model) == model)


def _had(
    session: Session, request: PlanRequest, is_in: sqlalchemy.ColumnElement[bool]
) -> Mapping[str, set[str]]:
    """Return, by device, the variants of a release that it may have proved.

    One that went back may have proved it before: whether it did, it knows itself.
    """
    digests = sqlalchemy.select(col(Variant.digest)).where(
        col(Variant.model) == request.model, col(Variant.release) == request.release
    )
    states = [ExecutionState.SUCCEEDED.value, ExecutionState.ROLLED_BACK.value]
    rows = session.connection().execute(
        sqlalchemy.select(col(Execution.device_id), col(Execution.digest)).where(
            col(Execution.rollout_id).in_(_rollouts_of(request.model)),
            col(Execution.digest).in_(digests),
            col(Execution.state).in_(states) | col(Execution.is_reverting),
            is_in,
        )
    )
    found: defaultdict[str, set[str]] = defaultdict(set)
    for device_id, digest in rows:
        found[device_id].add(str(digest))
    return found


def _name(running: Mapping[str, str]) -> str:
    return f"{running['model']}@{running['release']}+{running['variant']}"


def _who(session: Session, target: Target) -> sqlalchemy.ColumnElement[bool]:
    conditions: list[sqlalchemy.ColumnElement[bool]] = [col(Device.revoked_at).is_(None)]
    for key, value in sorted(target.labels.items()):
        labelled = sqlalchemy.select(col(DeviceLabel.device_id)).where(
            col(DeviceLabel.key) == key, col(DeviceLabel.value) == value
        )
        conditions.append(col(Device.id).in_(labelled))
    if target.devices:
        conditions.append(col(Device.id).in_(target.devices))
    said = [target_filter.parse(text) for text in (target.filter, target.scope) if text]
    conditions.extend(queries.where(session, tree) for tree in said)
    return sqlalchemy.and_(*conditions)


def _check_names(session: Session, target: Target) -> None:
    if not target.devices:
        return
    everyone = _who(session, Target(devices=target.devices, scope=target.scope))
    found = session.connection().execute(sqlalchemy.select(col(Device.id)).where(everyone))
    missing = sorted(set(target.devices) - set(found.scalars()))
    if missing:
        named = ", ".join(missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise NotFoundError(
            "device_not_found",
            f"there is no device {named}{more}: enrol it first, or leave it out",
            {"missing": missing},
        )


def _desired(
    session: Session, who: sqlalchemy.ColumnElement[bool], alias: str
) -> Mapping[str, _Desired]:
    rows = session.connection().execute(
        sqlalchemy.select(
            col(DesiredModel.device_id),
            col(DesiredModel.alias),
            col(DesiredModel.digest),
            col(DesiredModel.context),
            col(Execution.state),
            col(Rollout.serving),
            col(Rollout.policy),
        )
        .outerjoin(Execution, col(Execution.id) == col(DesiredModel.execution_id))
        .outerjoin(Rollout, col(Rollout.id) == col(DesiredModel.rollout_id))
        .where(col(DesiredModel.device_id).in_(sqlalchemy.select(col(Device.id)).where(who)))
    )
    found: defaultdict[str, _Desired] = defaultdict(_Desired)
    for device_id, row_alias, digest, context, state, said, policy in rows:
        terms = serving.from_json(said)
        if row_alias == alias:
            found[device_id].bound = Bound(
                digest,
                context,
                is_open=state in UNFINISHED,
                terms=terms,
                policy=fit_policy.from_json(policy),
            )
        else:
            found[device_id].others.append(_Held(digest, context, terms))
    return found


def _needs(session: Session, desired: Mapping[str, _Desired]) -> Mapping[_Held, int]:
    """Return the memory, in bytes, of each variant that other aliases are bound to.

    The worker process counts for each: every model has its own.
    """
    held = {other for one in desired.values() for other in one.others}
    digests: Sequence[str] = sorted({one.digest for one in held})
    variants = _variants(session, col(Variant.digest).in_(digests)) if digests else {}
    return {
        one: fit.need(
            variants[one.digest], one.context, one.terms.slots or 1, one.terms.kv_type
        ).memory
        for one in held
    }


def _variants(session: Session, which: sqlalchemy.ColumnElement[bool]) -> dict[str, fit.Candidate]:
    rows = session.connection().execute(
        sqlalchemy.select(col(Variant.digest), col(Variant.manifest)).where(which)
    )
    return {digest: candidate_of(manifest.decode(body), digest) for digest, body in rows}
