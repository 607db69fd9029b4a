"""Both repositories put together, from the roots that were pinned at enrolment on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sprat_proto.trust import DIRECTOR, IMAGE

from sprat_agent.audit.intents import Intents
from sprat_agent.identity.identity import Identity
from sprat_agent.registry.director import Director
from sprat_agent.registry.image import ImageRepository
from sprat_agent.registry.remote import Remote
from sprat_agent.registry.scratch import clear_scratch
from sprat_agent.registry.tuf_client import Anchor
from sprat_agent.state import State


@dataclass(frozen=True)
class DeviceTrust:
    """Both repositories, as this device knows them."""

    director: Director
    image: ImageRepository
    image_anchor: Anchor
    remote: Remote


def trust_of(
    state: State,
    identity: Identity,
    scratch: Path,
    remote: Remote,
    time: Callable[[datetime | None], datetime],
    *,
    intents: Intents | None = None,
) -> DeviceTrust:
    """Return both repositories.

    Args:
        state: Whose rows hold what was verified.
        identity: Has the pinned roots.
        scratch: A folder of its own, cleared: a power cut may have left something there.
        remote: Where the image repository is.
        time: Told the time floor, returns the time by which expiry is judged.
        intents: Where it is written down that another root is trusted; None: nowhere.
    """
    clear_scratch(scratch)
    anchor = Anchor(IMAGE, identity.image_root, scratch)
    pinned = Anchor(DIRECTOR, identity.director_root, scratch)
    director = Director(state, pinned, identity.device_id, time, intents)
    image = ImageRepository(state, anchor, remote, director.now, intents)
    return DeviceTrust(director, image, anchor, remote)
