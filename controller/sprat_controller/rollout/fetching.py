"""What a plan costs on each device: bytes that it must fetch, and how long that takes.

A device holds the files of what it runs, under any alias; of older versions it may hold more, which
only it knows: it never fetches more than is said here. Loading and probing are not in the time:
nobody has measured them before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import sqlalchemy as sql
from sprat_proto import manifest
from sprat_proto.manifest import Manifest
from sqlmodel import Session, col

from sprat_controller.rollout import expected, grouping, targets
from sprat_controller.rollout.plan import Action, Planned
from sprat_controller.rollout.requests import PlanRequest
from sprat_controller.rollout.strategy import Strategy
from sprat_controller.store.tables import Device, Variant

_CHUNK: Final = 5_000  # names in one statement


@dataclass(frozen=True)
class Cost:
    """What one device spends; None: not known, or nothing is to be done there.

    Attributes:
        fetch_bytes: Of the variant's files those that it does not hold.
        expected_s: Seconds from its own start.
        end_s: Seconds from the start of the rollout.
    """

    fetch_bytes: int | None
    expected_s: int | None
    end_s: int | None = None


_NONE: Final = Cost(None, None)


def of_plan(session: Session, lines: Sequence[Planned], bandwidth: int = 0) -> dict[str, Cost]:
    """Return the cost on each device of a plan.

    Args:
        session: An open session.
        lines: The plan.
        bandwidth: Bytes a second that one device gets; 0: not known.
    """
    installing = [line for line in lines if line.action is Action.INSTALL]
    running = _running(session, [line.device_id for line in installing])
    wanted = {line.digest for line in installing if line.digest is not None}
    manifests = _manifests(session, wanted.union(*running.values()))

    @cache
    def cost(digest: str, held: frozenset[str]) -> Cost:
        mine = [manifests[one] for one in held if one in manifests]
        return of_variant(manifests[digest], mine, bandwidth)

    found = dict.fromkeys((line.device_id for line in lines), _NONE)
    for line in installing:
        if line.digest is not None:
            found[line.device_id] = cost(line.digest, running.get(line.device_id, frozenset()))
    return found


def of_rollout(
    session: Session,
    lines: Sequence[Planned],
    request: PlanRequest,
    strategy: Strategy,
    bandwidth: int = 0,
) -> dict[str, Cost]:
    """Return the same, with when each device is done if the rollout proceeds so from its start."""
    costs = of_plan(session, lines, bandwidth)
    members = targets.grouped(session, request.target, strategy)
    placed = grouping.split(members, strategy, f"{request.model}@{request.release}")
    busy = {line.device_id for line in lines if line.action is Action.INSTALL}
    took = {name: cost.expected_s for name, cost in costs.items() if name in busy}
    ends = expected.ends(placed, took, strategy)
    return {name: replace(cost, end_s=ends.get(name)) for name, cost in costs.items()}


def of_variant(wanted: Manifest, held: Iterable[Manifest], bandwidth: int) -> Cost:
    """Return what a device spends on a variant that holds the files of others. Pure."""
    has = {sha256 for one in held for sha256, _ in one.blobs()}
    # A file that a variant names twice is fetched once.
    missing = {sha256: size for sha256, size in wanted.blobs() if sha256 not in has}
    total = sum(missing.values())
    if total and not bandwidth:
        return Cost(total, None)
    return Cost(total, (-(-total // bandwidth) if total else 0) + wanted.activation.soak_s)


def _running(session: Session, device_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the digests that each device runs."""
    found: dict[str, frozenset[str]] = {}
    for names in _chunks(device_ids):
        rows = session.connection().execute(
            sql.select(col(Device.id), col(Device.running)).where(col(Device.id).in_(names))
        )
        for device_id, running in rows:
            told: Mapping[str, Any] = running or {}
            found[device_id] = frozenset(one["digest"] for one in told.values())
    return found


def _manifests(session: Session, digests: Iterable[str]) -> dict[str, Manifest]:
    """Return the manifests of those variants that are known here."""
    found: dict[str, Manifest] = {}
    for names in _chunks(sorted(digests)):
        rows = session.connection().execute(
            sql.select(col(Variant.digest), col(Variant.manifest)).where(
                col(Variant.digest).in_(names)
            )
        )
        found |= {digest: manifest.decode(body) for digest, body in rows}
    return found


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK))
