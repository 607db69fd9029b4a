"""Taking in a bundle: its plan, then the models that it assigns, by the code that the network uses.

The plan is kept before the models come, because only what an accepted plan names is let in. Killed
anywhere, the import is done again: what was verified is kept, a blob goes on where it stopped. The
executions themselves begin when the agent runs; they find all that they need on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass

from sprat_proto import bundle
from sprat_proto.assignment import AssignedModel
from sprat_proto.v1 import link_pb2

from sprat_agent.bundle.archive import Archive
from sprat_agent.bundle.refusal import BundleError
from sprat_agent.registry.director import PlanRefusedError
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
    message = _plan(archive, receiver)
    try:
        await receiver.intake.keep(message)
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


async def _bring(wanted: AssignedModel, registry: LocalRegistry) -> None:
    try:
        await registry.download(wanted)
        await registry.verify(wanted)
        await registry.install(wanted)
    except ExecutionError as error:
        raise BundleError(
            f"{wanted.name} of the bundle is refused ({error.code}): {error.message}"
        ) from error
    except RetryLaterError as error:
        raise BundleError(f"{wanted.name} of the bundle is refused: {error}") from error


def _plan(archive: Archive, receiver: Receiver) -> link_pb2.Assignment:
    """Return this device's plan as the Link would have brought it."""
    names = {
        role: bundle.plan_name(receiver.device_id, role)
        for role in ("targets", "snapshot", "timestamp")
    }
    if not all(archive.has(name) for name in names.values()):
        whom = ", ".join(archive.header.devices) or f"the group {archive.header.group}"
        raise BundleError(
            f"the bundle is for {whom}, and this device is {receiver.device_id} of the group"
            f" {receiver.group}: have one made with `sprat bundle export --device"
            f" {receiver.device_id}`"
        )
    roots = [name for name in archive.members if name.startswith("director/")]
    return link_pb2.Assignment(
        targets=archive.read(names["targets"]),
        snapshot=archive.read(names["snapshot"]),
        timestamp=archive.read(names["timestamp"]),
        roots=[archive.read(name) for name in roots],
    )
