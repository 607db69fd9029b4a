"""`sprat-agent bundle import`: the parts of an agent that take a bundle in, and nothing that runs.

The folder is held as a running agent holds it: two would not see each other's steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sprat_proto.assignment import AssignedModel
from sprat_proto.audit_events import Tag

from sprat_agent.audit import sealing
from sprat_agent.audit.journal import UNWATCHED, Journal, Watch
from sprat_agent.bundle.archive import Archive
from sprat_agent.bundle.load import Loaded, Receiver, load
from sprat_agent.bundle.places import BundleFetcher, BundleRemote
from sprat_agent.clock import Clock
from sprat_agent.identity.identity import Identity
from sprat_agent.registry.device_trust import trust_of
from sprat_agent.registry.judge import Judge
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.store import Store
from sprat_agent.registry.trust import Past
from sprat_agent.state import State
from sprat_agent.sync.intake import Intake
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.outbox import Outbox


@dataclass(frozen=True)
class Device:
    """Which device takes a bundle in.

    Attributes:
        state_dir: The agent's state folder.
        identity: Whose folder it is.
        hardware_id: Of this device.
        clock: For the audit log.
        time: Told the time floor, returns the time by which expiry is judged.
        watch: Says how far to believe the clock, in the audit log.
    """

    state_dir: Path
    identity: Identity
    hardware_id: str
    clock: Clock
    time: Callable[[datetime | None], datetime]
    watch: Watch = UNWATCHED


async def receive(file: Path, device: Device) -> Loaded:
    """Take in a bundle while no agent runs on the device's folder.

    Raises:
        BundleError: It is refused.
        IdentityError: The device's audit key is gone.
        StartupError: An agent runs on the folder, or it cannot be opened.
        StateError: Something could not be kept.
    """
    with Archive(file) as archive:
        state = State(device.state_dir)
        try:
            journal = Journal(state, device.clock, sealing.of(device.identity), device.watch)
            loaded = await load(archive, _receiver(archive, state, journal, device))
            journal.append(
                Tag.BUNDLE_IMPORTED,
                f"assignment/{loaded.version}",
                {"models": [one.name for one in loaded.models]},
            )
        finally:
            state.close()
    return loaded


def _receiver(archive: Archive, state: State, journal: Journal, device: Device) -> Receiver:
    identity = device.identity
    ledger = Ledger(state, journal, Outbox(state), device.clock)

    def past(wanted: AssignedModel) -> Past:
        name = f"{wanted.publisher}/{wanted.model}"
        return Past(ledger.counter_floor(name), ledger.was_proved(wanted.digest))

    remote = BundleRemote(archive)
    scratch = device.state_dir / "scratch"
    trust = trust_of(state, identity, scratch, remote, device.time, intents=ledger.intents)
    judge = Judge(trust.director, trust.image, remote, device.hardware_id, past)
    store = Store(device.state_dir)
    return Receiver(
        device_id=identity.device_id,
        group=identity.group,
        intake=Intake(
            identity.device_id,
            identity.group,
            trust.director,
            trust.image,
            remote,
            state=state,
            ledger=ledger,
            journal=journal,
            uniform=random.uniform,
        ),
        director=trust.director,
        ledger=ledger,
        registry=LocalRegistry(
            store, BundleFetcher(archive), judge, trust.image_anchor, device.hardware_id
        ),
    )
