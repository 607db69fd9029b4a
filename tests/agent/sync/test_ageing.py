"""What happens as time passes and no newer plan comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.device import NOW, Device, Disk
from simulators.signed import assigned, release
from sprat_agent.sync.ageing import Ageing
from sprat_agent.sync.changes import changes
from sprat_agent.sync.plan import Committed
from sprat_proto.approval import Change
from sprat_proto.states import ExecutionState, Step

ONE, TWO = release(), release("2.0.0", counter=2)
WEEK = timedelta(days=7)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path, Disk({one.digest: one for one in (ONE, TWO)}))
    yield made
    made.close()


def ageing(device: Device) -> Ageing:
    return Ageing(device.ledger, device.workers, device.journal, lambda: device.now)


def tags(device: Device) -> list[str]:
    return [one["tag"] for one in device.audit()]


async def test_t16_an_expired_plan_is_said_once_and_what_runs_runs_on(device: Device) -> None:
    device.assign(assigned(1, [ONE.wanted("e1")]))
    await device.live()
    age = ageing(device)
    assert not age.is_stale()
    device.now = NOW + timedelta(days=30)
    assert age.is_stale()
    for _ in range(3):
        await age.look()
    assert tags(device).count("agent:assignment:stale") == 1
    assert device.answers() == ONE.digest


async def test_t16_nothing_new_begins_under_an_expired_plan_until_it_is_signed_anew(
    device: Device,
) -> None:
    device.assign(assigned(1, [ONE.wanted("e1")]))
    await device.live()
    device.now = NOW + WEEK
    device.assign(assigned(2, [TWO.wanted("e2")]), NOW + WEEK)
    renewed: list[bool] = []

    def settled() -> bool:
        if not renewed and device.phase_or_none("e2") is Step.DOWNLOADING:
            assert device.answers() == ONE.digest
            renewed.append(True)
            device.assign(assigned(2, [TWO.wanted("e2")]), NOW + 2 * WEEK)
        return bool(renewed) and device.is_settled()

    await device.run_until(settled)
    assert device.phase("e2") is ExecutionState.SUCCEEDED
    assert device.answers() == TWO.digest


async def test_a_model_whose_time_is_over_stops_and_is_audited_once(device: Device) -> None:
    until_s = int((NOW + WEEK).timestamp())
    device.assign(assigned(1, [ONE.wanted("e1", run_until=until_s)]))
    await device.live()
    age = ageing(device)
    await age.look()
    assert device.answers() == ONE.digest
    device.now = NOW + WEEK
    await age.look()
    await age.look()
    assert device.answers() == ""
    assert tags(device).count("agent:model:ended") == 1
    assert age.has_ended(ONE.wanted("e1", run_until=until_s))  # so it is not loaded at boot
    assert not age.has_ended(TWO.wanted("e2"))


def test_a_change_is_all_that_would_become_different() -> None:
    committed = {"assistant": Committed(ONE.wanted("e1"), 256)}
    known = frozenset({"e1"})
    assert changes(assigned(1, [ONE.wanted("e1")]), committed, known) == ()
    assert changes(assigned(2, [ONE.wanted("e1")], context=512), committed, known) == ()
    again = assigned(2, [ONE.wanted("e2")], context=512)
    assert changes(again, committed, known) == (Change("assistant", ONE.digest, 512),)
    other = assigned(2, [TWO.wanted("e2")])
    assert changes(other, committed, known) == (Change("assistant", TWO.digest, 256),)
    assert changes(assigned(2, []), committed, known) == (Change("assistant", "", 256),)
    longer = assigned(2, [ONE.wanted("e1", run_until=9)])
    assert changes(longer, committed, known) == (Change("assistant", ONE.digest, 256, 9),)
    added = assigned(2, [ONE.wanted("e1"), TWO.wanted("e2", "coder")])
    assert changes(added, committed, known) == (Change("coder", TWO.digest, 256, 0, 256),)
