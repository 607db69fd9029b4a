"""Taking in a bundle: its plan, then the models that it assigns, by the code that the network uses.

The plan is kept before the models come, because only what an accepted plan names is let in. Killed
anywhere, the import is done again: what was verified is kept, a blob goes on where it stopped. The
executions themselves begin when the agent runs; they find all that they need on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sprat_proto import bundle
from sprat_proto.assignment import AssignedModel
from sprat_proto.v1 import link_pb2

from sprat_agent.bundle.archive import Archive
from sprat_agent.bundle.refusal import BundleError
from sprat_agent.bundle.statement import Known, judged
from sprat_agent.registry.director import Director, PlanRefusedError
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.source import SourceError
from sprat_agent.sync.intake import Intake
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.ports import ExecutionError, RetryLaterError


@dataclass(frozen=True)
class Receiver:
    """The parts that take a bundle in; image repository and blobs are read from the bundle."""

    device_id: str
    group: str
    intake: Intake
    director: Director
    ledger: Ledger
    registry: LocalRegistry


@dataclass(frozen=True)
class Loaded:
    """What an import brought."""

    version: int  # of the assignment that is obeyed now
    models: tuple[AssignedModel, ...]


async def load(archive: Archive, receiver: Receiver) -> Loaded:
    """Take in what the bundle has for this device.

    Raises:
        BundleError: It is for others, or something in it is refused. What was kept by then was
            verified, and the plan that was obeyed before is obeyed still unless the new one was
            good.
    """
    try:
        await _obey(archive, receiver)
    except PlanRefusedError as error:
        raise BundleError(f"the bundle's plan is refused ({error.code}): {error}") from error
    except SourceError as error:
        raise BundleError(f"the bundle's plan is refused: {error}") from error
    assignment = receiver.ledger.assignment()
    models = tuple(assignment.models) if assignment else ()
    committed = receiver.ledger.committed()
    for wanted in models:
        active = committed.get(wanted.alias)
        if active is not None and active.wanted.digest == wanted.digest:
            continue  # it was proved here; it may have been retired since
        await _bring(wanted, receiver.registry)
    return Loaded(receiver.ledger.assignment_version(), models)


async def _obey(archive: Archive, receiver: Receiver) -> None:
    """Have this device's plan kept, or else what was said to its group.

    Raises:
        BundleError: There is neither, or the statement is refused.
        PlanRefusedError: The plan is refused, or a root, or an approval is missing.
        SourceError: The bundle has no metadata of the image repository.
    """
    roots = [archive.read(name) for name in archive.members if name.startswith("director/")]
    plan = _plan(archive, receiver.device_id, roots)
    if plan is not None:
        await receiver.intake.keep(plan)
        return
    if not archive.has(bundle.OFFLINE):
        raise BundleError(
            f"the bundle is for {', '.join(archive.header.devices) or 'nobody'}, and this device is"
            f" {receiver.device_id} of the group {receiver.group}: have one made with `sprat bundle"
            f" export --device {receiver.device_id}`"
        )
    director = receiver.director
    role = director.offline_role(roots)
    if role is None:
        raise BundleError(
            "the bundle is for a group, and the director's root names nobody who may speak to"
            " groups offline: have one made for this device by name"
        )
    known = Known(
        group=receiver.group,
        counter=director.counter_floor(role),
        newest_issued=director.newest_issued(),
        now=int(director.now().timestamp()),
        obeyed=director.statement(),
    )
    statement = judged(archive.read(bundle.OFFLINE), role, known)
    await receiver.intake.keep_statement(statement, role)


async def _bring(wanted: AssignedModel, registry: LocalRegistry) -> None:
    try:
        # Whether it fits is asked by its execution, when the agent runs.
        await registry.download(wanted)
        await registry.verify(wanted)
        await registry.install(wanted)
    except ExecutionError as error:
        raise BundleError(
            f"{wanted.name} of the bundle is refused ({error.code}): {error.message}"
        ) from error
    except RetryLaterError as error:
        raise BundleError(f"{wanted.name} of the bundle is refused: {error}") from error


def _plan(archive: Archive, device_id: str, roots: Sequence[bytes]) -> link_pb2.Assignment | None:
    """Return this device's plan as the Link would have brought it; None if there is none."""
    names = {
        role: bundle.plan_name(device_id, role) for role in ("targets", "snapshot", "timestamp")
    }
    if not all(archive.has(name) for name in names.values()):
        return None
    return link_pb2.Assignment(
        targets=archive.read(names["targets"]),
        snapshot=archive.read(names["snapshot"]),
        timestamp=archive.read(names["timestamp"]),
        roots=roots,
    )
