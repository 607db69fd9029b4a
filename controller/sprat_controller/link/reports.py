"""Reports of executions: kept strictly in order of their number, each exactly once.

A report that was kept is acknowledged again; one that comes before its turn is not kept, and the
device sends it again. Whatever its content, a report in its turn is acknowledged: one that makes no
sense must not block those behind it. Nothing here changes a final state. A device that refuses its
variant by its own facts is judged anew at once (`rollout.replan`); what may pass by itself is tried
again (`rollout.outcomes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy
from sprat_proto.audit_events import Tag
from sprat_proto.states import ExecutionState, ModelState, ReasonCode, Step
from sprat_proto.v1 import link_pb2
from sqlmodel import Session, col

from sprat_controller.audit import log
from sprat_controller.fleet import observed_metrics
from sprat_controller.link import accounting, inbound, known, returns
from sprat_controller.link.fallbacks import Ended
from sprat_controller.link.known import Hearing, Reply
from sprat_controller.rollout import assign, attempts, outcomes, replan
from sprat_controller.rollout.phases import ExecutionEvent
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.records import By, Run, find_run, hold, move_execution
from sprat_controller.store.tables import DesiredModel, Rollout, Variant

# What a device may say of an execution; the other states are the planner's to give.
_EVENTS: Final[Mapping[str, ExecutionEvent]] = {
    ExecutionState.QUEUED: ExecutionEvent.PROGRESS,  # it waits on the device behind another
    ExecutionState.IN_PROGRESS: ExecutionEvent.PROGRESS,
    ExecutionState.SUCCEEDED: ExecutionEvent.SUCCEED,
    ExecutionState.FAILED: ExecutionEvent.FAIL,
    ExecutionState.ROLLED_BACK: ExecutionEvent.ROLL_BACK,
    ExecutionState.REJECTED: ExecutionEvent.REJECT,
    ExecutionState.CANCELED: ExecutionEvent.CANCEL,
}
_GOES_ON: Final = frozenset({ExecutionEvent.PROGRESS, ExecutionEvent.SUCCEED})
_ENDS_BADLY: Final = frozenset({ExecutionEvent.FAIL, ExecutionEvent.ROLL_BACK})
_MAX_ID: Final = 128


def take_in(hearing: Hearing, report: link_pb2.Report) -> Reply:
    """Keep a report if it is its turn, and acknowledge all that are kept."""
    reply, device = Reply(), hearing.device
    kept = device.report_seq
    if report.seq == kept + 1:
        kept = report.seq
        values: dict[str, Any] = {"report_seq": kept}
        values |= _apply(hearing, report, reply)
        known.save(hearing.session, device.id, hearing.now, values)
    ack = link_pb2.ReportAck(up_to=kept)
    reply.messages.insert(0, link_pb2.ControllerMessage(report_ack=ack))
    return reply


def _apply(hearing: Hearing, report: link_pb2.Report, reply: Reply) -> dict[str, Any]:
    """Change the execution that the report is of; return what changes in the device's row."""
    said = report.execution
    known = len(said.execution_id) <= _MAX_ID
    run = find_run(hearing.session, attempts.execution_of(said.execution_id)) if known else None
    if run is None or run.device_id != hearing.device.id:
        _refuse(reply, report, "of an execution that this device does not have")
        return {}
    if said.state not in _EVENTS or said.step not in ("", *Step):
        _refuse(reply, report, f"with state {said.state[:64]!r} and step {said.step[:64]!r}")
        return {}
    values = _explain(hearing, run, said)
    if said.execution_id != run.name or run.state.is_final:
        _note_late(hearing, run, report)
        return values
    return values | _move(hearing, run, report, reply)


def _explain(hearing: Hearing, run: Run, said: link_pb2.ExecutionReport) -> dict[str, Any]:
    """Return what the end of an execution changes in what explains what the device runs."""
    is_digest = said.running_digest == "" or inbound.is_digest(said.running_digest)
    if not ExecutionState(said.state).is_final or not is_digest:
        return {}
    alias = hearing.session.connection().execute(
        sqlalchemy.select(col(Rollout.alias)).where(col(Rollout.id) == run.rollout_id)
    )
    is_success = said.state == ExecutionState.SUCCEEDED
    ended = Ended(alias.scalar_one(), run.digest or "", said.running_digest, is_success)
    return accounting.explain(hearing, ended)


def _move(hearing: Hearing, run: Run, report: link_pb2.Report, reply: Reply) -> dict[str, Any]:
    said = report.execution
    if run.state is not ExecutionState.IN_PROGRESS:
        _refuse(reply, report, f"{_EVENTS[said.state]} of an execution that is {run.state}")
        return {}
    rollout = hold(hearing.session, run.rollout_id)
    if rollout is None:
        raise RuntimeError(f"execution {run.id} is of a rollout that is not there")
    if run.is_reverting:
        return _move_back(hearing, rollout, run, said, reply)
    event, reason = _judge(run, said)
    by = By(Tag.EXECUTION_CHANGED, hearing.by_device, hearing.now)
    changes = _probed(hearing, run, rollout.alias, report, reply)
    if event is ExecutionEvent.REJECT:
        state = replan.rejected(hearing.session, rollout, run, reason, by)
    elif event in _ENDS_BADLY:
        state = outcomes.fail(
            hearing.session, rollout, run, event, by, reason=reason, changes=changes
        )
    else:
        step = Step(said.step) if said.step else None
        changes |= outcomes.told(rollout, run, step, hearing.now)
        if reason is None and event in _GOES_ON:
            changes["reason"] = sqlalchemy.null()  # it waited, and waits no more
        state = move_execution(hearing.session, run, event, by, reason=reason, changes=changes)
    if state in (None, ExecutionState.IN_PROGRESS):
        return {}
    reply.is_progress = True
    if state is ExecutionState.SUCCEEDED:
        return _now_runs(hearing, run.digest or "", rollout.alias)
    runs = report.execution.running_digest
    message = assign.withdraw(hearing.session, hearing.signer, run, hearing.now, runs=runs)
    reply.messages.extend([message] if message else [])
    return {}


def _probed(
    hearing: Hearing, run: Run, alias: str, report: link_pb2.Report, reply: Reply
) -> dict[str, Any]:
    """Keep what the probe told; return what it changes of the execution."""
    said = report.execution
    probe = inbound.probe_of(said)
    if probe is None:
        if said.HasField("probe"):
            _refuse(reply, report, "with figures of a probe that no probe has")
        return {}
    if run.digest is not None:
        what = alias, run.digest
        observed_metrics.keep_probe(hearing.session, run.device_id, what, probe, hearing.now)
    return {"probe": probe}


def _move_back(
    hearing: Hearing,
    rollout: Rollout,
    run: Run,
    said: link_pb2.ExecutionReport,
    reply: Reply,
) -> dict[str, Any]:
    """Take in how far the way back is; it ends well with what the device had proved before."""
    event = _EVENTS[said.state]
    if event is ExecutionEvent.PROGRESS:
        return {}
    row = hearing.session.connection().execute(
        sqlalchemy.select(col(DesiredModel.digest)).where(
            col(DesiredModel.device_id) == run.device_id, col(DesiredModel.alias) == rollout.alias
        )
    )
    wanted = row.scalar() or ""
    is_back = event is ExecutionEvent.SUCCEED and said.running_digest == wanted
    reason = inbound.reason_of(said) or _other_digest(wanted, said)
    outcome = (ExecutionEvent.FAIL, reason)
    if is_back:
        outcome = (ExecutionEvent.ROLL_BACK, returns.TAKEN_BACK)
    elif event is ExecutionEvent.CANCEL:
        outcome = (event, inbound.reason_of(said))
    by = By(Tag.EXECUTION_CHANGED, hearing.by_device, hearing.now)
    if move_execution(hearing.session, run, outcome[0], by, reason=outcome[1]) is None:
        return {}
    reply.is_progress = True
    return _now_runs(hearing, wanted, rollout.alias) if is_back else {}


def _judge(run: Run, said: link_pb2.ExecutionReport) -> tuple[ExecutionEvent, Reason | None]:
    """Return what the report means: success is believed only with the digest that was assigned."""
    event, reason = _EVENTS[said.state], inbound.reason_of(said)
    if event is not ExecutionEvent.SUCCEED or said.running_digest == run.digest:
        return event, reason
    return ExecutionEvent.FAIL, _other_digest(run.digest or "", said)


def _other_digest(expected: str, said: link_pb2.ExecutionReport) -> Reason:
    return Reason(
        ReasonCode.DIGEST_MISMATCH,
        "the device reported success, but another variant answers under the alias",
        expected=expected,
        found=inbound.clip(said.running_digest, inbound.MAX_WORD),
    )


def _now_runs(hearing: Hearing, digest: str, alias: str) -> dict[str, Any]:
    """Return what the device runs after a success, which its next heartbeat will say too."""
    device = hearing.device
    running = {**device.running, alias: _running(hearing.session, digest)}
    state = known.state_of(hearing.session, device, running=running, obeyed=device.obeyed_version)
    return {"running": running, "state": state.value}


def _running(session: Session, digest: str) -> dict[str, str]:
    row = session.connection().execute(
        sqlalchemy.select(col(Variant.model), col(Variant.release), col(Variant.variant)).where(
            col(Variant.digest) == digest
        )
    )
    model, release, variant = row.one()
    return {
        "model": model,
        "release": release,
        "variant": variant,
        "digest": digest,
        "state": ModelState.LOADED.value,
    }


def _note_late(hearing: Hearing, run: Run, report: link_pb2.Report) -> None:
    """Write down a report of what had ended already, or of a device's way back."""
    said, reason = report.execution, inbound.reason_of(report.execution)
    detail: dict[str, object] = {
        "rollout": run.rollout_id,
        "device": run.device_id,
        "seq": report.seq,
        "is": run.state.value,
        "reported": said.state,
        "step": said.step,
        "running": inbound.clip(said.running_digest, inbound.MAX_WORD),
    }
    if reason is not None:
        detail["reason"] = reason.as_json()
    log.append(
        hearing.session,
        Tag.EXECUTION_REPORTED_LATE,
        at=hearing.now,
        actor=hearing.by_device,
        subject=f"execution/{said.execution_id}",
        detail=detail,
    )


def _refuse(reply: Reply, report: link_pb2.Report, found: str) -> None:
    reply.refused.append(f"report {report.seq} {found}")
