"""Hello and Heartbeat: who is there, on what hardware, running what, obeying which assignment."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, assert_never

from sprat_proto.audit_events import Tag
from sprat_proto.fit import MIB
from sprat_proto.v1 import link_pb2

from sprat_controller.audit import log
from sprat_controller.fleet import observed_metrics, observed_rates
from sprat_controller.link import accounting, copies, inbound, known, returns, trail
from sprat_controller.link.known import Hearing, Known, Reply
from sprat_controller.link.told_metrics import metrics_of
from sprat_controller.link.told_rates import rates_of
from sprat_controller.rollout import assign, hardware
from sprat_controller.signer.port import SignerError

# Free disk is kept anew when it differs by this much: plans need no more, and rows stay quiet.
_DISK_NOTICED: Final = 64 * MIB
# A plan is good for 7 days; signed anew this often, a device may be away for most of a week.
RENEW_AFTER: Final = timedelta(days=1)
_log = logging.getLogger(__name__)


def greet(hearing: Hearing, message: link_pb2.DeviceMessage) -> Reply:
    """Take in a Hello; the reply holds what the device missed, without the Welcome."""
    hello, reply = message.hello, Reply()
    boot_id = inbound.clip(message.boot_id, inbound.MAX_WORD)
    hearing, values = copies.look_at_boot(hearing, boot_id)
    values |= {
        "online": True,
        "carrier": hearing.carrier,
        "capability": min(hello.capability, 1 << 30),
        "agent_version": inbound.clip(hello.agent_version, inbound.MAX_WORD),
        "boot_id": boot_id,
    }
    obeyed = _obeyed(hearing, hello.assignment_version, reply)
    values |= _hardware(hello, reply)
    values |= _conduct(hearing, hello.running, obeyed, reply)
    lost = _reports_lost(hearing, hello.next_report_seq)
    values |= lost
    values |= _account(hearing, hello, lost, reply)
    known.save(hearing.session, hearing.device.id, hearing.now, values)
    returns.heard_again(hearing, reply)
    _emptied(hearing, values, reply)
    _rates(hearing, hello.running, reply)
    if hello.HasField("audit_size"):
        trail.look_at_size(hearing, hello.audit_size)
    _acknowledge(hearing, hello, reply)
    _send_newer(hearing, Has(obeyed, hello.director_version, hello.director_root_version), reply)
    return reply


def beat(hearing: Hearing, heartbeat: link_pb2.Heartbeat) -> Reply:
    """Take in a Heartbeat; a device with an older assignment is sent the newest again."""
    reply = Reply()
    values: dict[str, Any] = {"online": True, "carrier": hearing.carrier}
    obeyed = _obeyed(hearing, heartbeat.assignment_version, reply)
    values |= _free_disk(hearing.device, heartbeat.disk_free_bytes)
    values |= _conduct(hearing, heartbeat.running, obeyed, reply)
    values |= _account(hearing, heartbeat, {}, reply)
    known.save(hearing.session, hearing.device.id, hearing.now, values)
    trail.look_at_silence(hearing)
    _emptied(hearing, values, reply)
    _rates(hearing, heartbeat.running, reply)
    _metrics(hearing, heartbeat.metrics, reply)
    has = Has(obeyed, heartbeat.director_version, heartbeat.director_root_version)
    _send_newer(hearing, has, reply)
    return reply


def _obeyed(hearing: Hearing, version: int, reply: Reply) -> int:
    if version <= inbound.MAX_VERSION:
        return version
    reply.refused.append(f"an assignment version of {version}")
    return hearing.device.obeyed_version


def _hardware(hello: link_pb2.Hello, reply: Reply) -> dict[str, Any]:
    profile = inbound.profile_of(hello.profile)
    if profile is None:
        reply.refused.append("Hello: a hardware profile that is empty or beyond its limits")
        return {}
    return {
        "profile": hardware.to_json(profile),
        "hardware_class": hardware.hardware_class(profile),
        "simulated": profile.simulated,
    }


def _conduct(
    hearing: Hearing, models: Iterable[link_pb2.RunningModel], obeyed: int, reply: Reply
) -> dict[str, Any]:
    """Return what changed in what the device runs and obeys."""
    device = hearing.device
    running = inbound.running_of(models)
    if running is None:
        reply.refused.append("a running model that is none, or too many of them")
        running = device.running
    values: dict[str, Any] = {}
    if running != device.running:
        values["running"] = running
    if obeyed != device.obeyed_version:
        values["obeyed_version"] = obeyed
    state = known.state_of(hearing.session, device, running=running, obeyed=obeyed)
    if state != device.state:
        values["state"] = state.value
    return values


def _account(
    hearing: Hearing,
    said: link_pb2.Hello | link_pb2.Heartbeat,
    lost: Mapping[str, Any],
    reply: Reply,
) -> dict[str, Any]:
    """Return what changed in what explains what runs, if no report is on its way to explain it.

    A message that was delayed names an older report than the newest that is kept: it says nothing
    of now.
    """
    kept = lost.get("report_seq", hearing.device.report_seq)
    running = inbound.running_of(said.running)
    if not said.HasField("newest_report_seq") or said.newest_report_seq != kept or running is None:
        return {}
    return accounting.settle(hearing, running, reply, is_forgotten=bool(lost))


def _metrics(hearing: Hearing, metrics: Sequence[link_pb2.ModelMetrics], reply: Reply) -> None:
    told, refused = metrics_of(metrics)
    reply.refused.extend(refused)
    observed_metrics.keep(hearing.session, hearing.device.id, told, hearing.now)


def _emptied(hearing: Hearing, values: Mapping[str, Any], reply: Reply) -> None:
    """Look for ways back to nothing, if what runs or what is obeyed has changed."""
    if "running" in values or "obeyed_version" in values:
        returns.emptied(hearing, values.get("running", hearing.device.running), reply)


def _rates(hearing: Hearing, models: Sequence[link_pb2.RunningModel], reply: Reply) -> None:
    """Keep how fast the device was seen to answer, if its hardware is measured."""
    profile = hearing.device.profile
    if profile is None or profile["simulated"]:
        return
    told, refused = rates_of(models)
    reply.refused.extend(refused)
    observed_rates.keep(hearing.session, hearing.device.id, told, hearing.now)


def _free_disk(device: Known, free: int) -> dict[str, Any]:
    """Return the profile with what is free on disk now, if it is measured and differs by much."""
    profile = device.profile
    if profile is None or profile["simulated"] or not 0 < free <= inbound.MAX_COUNT:
        return {}
    if abs(profile["disk_free_bytes"] - free) < _DISK_NOTICED:
        return {}
    return {"profile": {**profile, "disk_free_bytes": free}}


def _reports_lost(hearing: Hearing, next_seq: int) -> dict[str, Any]:
    """Go on where the device does if it forgot reports that are not here (any more).

    It forgets only what was acknowledged, so our rows were set back, as by a restored backup.
    """
    device = hearing.device
    if not device.report_seq + 1 < next_seq <= inbound.MAX_COUNT:
        return {}
    log.append(
        hearing.session,
        Tag.DEVICE_REPORTS_LOST,
        at=hearing.now,
        actor=hearing.by_device,
        subject=f"device/{device.id}",
        outcome="failure",
        reason="reports_lost",
        detail={"first": device.report_seq + 1, "last": next_seq - 1},
    )
    return {"report_seq": next_seq - 1}


def _acknowledge(hearing: Hearing, hello: link_pb2.Hello, reply: Reply) -> None:
    """Acknowledge again what the device still keeps though it is here."""
    device = hearing.device
    if hello.next_report_seq <= device.report_seq:
        ack = link_pb2.ReportAck(up_to=device.report_seq)
        reply.messages.append(link_pb2.ControllerMessage(report_ack=ack))
    head = trail.head_of(device)
    if head is not None and hello.next_audit_seq <= head.size:
        reply.messages.append(hearing.acknowledger.audit_ack(device.id, head.size, head.root))


def _send_newer(hearing: Hearing, has: Has, reply: Reply) -> None:
    """Add the newest plan if the device has an older one, or one that is unknown here.

    A version above ours was issued before our rows were set back: only a higher one is obeyed.
    """
    action = plan_to_send(hearing.device, has, hearing.now)
    if action is Send.NOTHING:
        return
    session, signer, device_id = hearing.session, hearing.signer, hearing.device.id
    try:
        match action:
            case Send.NEXT:
                message = assign.issue(session, signer, device_id, hearing.now)
            case Send.RENEWED:
                message = assign.renew(session, signer, device_id, hearing.now)
            case Send.NEWEST:
                message = assign.newest(session, device_id)
            case _:
                assert_never(action)
    except SignerError as error:
        # What else the device said is kept; it asks again with its next heartbeat.
        _log.error("device %s gets no plan: %s", device_id, error.message)
        return
    if message is not None:
        reply.messages.append(assign.with_roots(session, message, has.root_version))


@dataclass(frozen=True)
class Has:
    """What a device says it has: an assignment, director metadata, the director's root."""

    assignment_version: int
    plan_version: int
    root_version: int


class Send(StrEnum):
    """What a device is to be sent."""

    NOTHING = "NOTHING"
    NEWEST = "NEWEST"  # the plan that was signed last
    RENEWED = "RENEWED"  # the same assignment, signed anew
    NEXT = "NEXT"  # an assignment of a higher version


def plan_to_send(device: Known, has: Has, now: datetime) -> Send:
    """Return what a device that has this is to be sent. Pure."""
    if device.is_quarantined or device.assigned_version is None or device.plan_issued_at is None:
        return Send.NOTHING
    if has.assignment_version > device.assigned_version:
        return Send.NEXT
    is_old = not timedelta() <= now - device.plan_issued_at < RENEW_AFTER
    root_version = device.root_version or 0  # none yet: no device takes in anything
    if is_old or device.plan_root != root_version:
        return Send.RENEWED
    plan_version = device.plan_version or 0
    if has.plan_version > plan_version:
        return Send.RENEWED  # the rows were set back; the signer counts by the clock
    behind = (
        has.assignment_version < device.assigned_version
        or has.plan_version < plan_version
        or has.root_version < root_version
    )
    return Send.NEWEST if behind else Send.NOTHING
