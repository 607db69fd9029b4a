"""A device and its copy: one identity that speaks from two places, noticed by what both say.

Nothing that a device keeps tells it from a copy of its disk; what tells is that two go on from
there. Either of these is proof:

- *A start that comes back.* Each start of an agent has an id of its own, drawn anew. Whoever says
  Hello with one that gave way to another `DELAYED` ago was running all the while, and so was the
  other. Within that time it may be a message that was held up on its way.
- *Two logs in turn.* A record that comes again as another one is a fork: a copy, or a disk that was
  set back. If the log that is kept goes on after that, both ends of the fork are alive.

The copy is in quarantine with its device: it gets no plan until a person has decided which is which
(`sprat devices release-quarantine`). What cannot be told apart, and is not: a copy that never
speaks (its renewal is noticed, `fleet.renewal`), and a snapshot of a machine's memory until its log
and the other's differ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from sprat_proto.audit_events import Tag

from sprat_controller.audit import log
from sprat_controller.fleet.renewal import COPIED, quarantine
from sprat_controller.link.known import Hearing
from sprat_controller.store.tables import Device

# Ids of starts that are remembered: more copies of one device than that are noticed all the same.
MOST_BOOTS: Final = 16
DELAYED: Final = timedelta(seconds=30)
_log = logging.getLogger(__name__)


def look_at_boot(hearing: Hearing, boot_id: str) -> tuple[Hearing, dict[str, Any]]:
    """Raise the alarm if a start is back that another had followed.

    Returns:
        The device as it stands now, and what changed of its row.
    """
    device = hearing.device
    if not boot_id or boot_id == device.boot_id:
        return hearing, {}
    now, former = int(hearing.now.timestamp()), dict(device.former_boots or {})
    if now - former.get(boot_id, now) >= DELAYED.total_seconds():
        detail = {"how": "start", "boot": boot_id, "other_boot": device.boot_id}
        hearing = _raise_alarm(hearing, detail)
    if device.boot_id:
        former.setdefault(device.boot_id, now)
    newest = sorted(former, key=lambda one: former[one])[-MOST_BOOTS:]
    return hearing, {"former_boots": {one: former[one] for one in newest}}


def look_at_fork(hearing: Hearing, *, differs_at: int | None, goes_on: bool) -> dict[str, Any]:
    """Raise the alarm if the log that is kept goes on after another one had come.

    Args:
        hearing: Of a batch of audit.
        differs_at: Where a record came that is kept as another one; None: nowhere.
        goes_on: Records came that follow those that are kept.

    Returns:
        What changed of the device's row.
    """
    if differs_at is not None:
        return {"audit_forked_at": differs_at}
    forked_at = hearing.device.audit_forked_at
    if not goes_on or forked_at is None:
        return {}
    _raise_alarm(hearing, {"how": "log", "position": forked_at})
    return {"audit_forked_at": None}


def _raise_alarm(hearing: Hearing, detail: Mapping[str, object]) -> Hearing:
    """Write it down, once until somebody has released the device; it gets no plan from now on."""
    row = hearing.session.get(Device, hearing.device.id)
    if row is None:
        raise RuntimeError(f"the row of {hearing.device.id} is gone; rows of devices stay")
    if row.quarantined_at is None or row.quarantine_reason != COPIED:
        _log.error(
            "device %s speaks from two places: there is a copy of it (%s)", row.id, dict(detail)
        )
        log.append(
            hearing.session,
            Tag.DEVICE_AUDIT_COPIED,
            at=hearing.now,
            actor=hearing.by_device,
            subject=f"device/{row.id}",
            outcome="failure",
            reason=COPIED,
            detail=detail,
        )
        quarantine(hearing.session, row, COPIED, hearing.now)
    return replace(hearing, device=replace(hearing.device, is_quarantined=True))
