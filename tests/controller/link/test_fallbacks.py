"""A device that runs something else without having said so is noticed, and no other ever is."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.controlled import ALIAS, OPERATOR, SimDevice, World
from sprat_controller.link.fallbacks import Account, Ended, Fallback, explain, settle
from sprat_controller.store.tables import ObservedMetric
from sprat_proto.assignment import AssignedModel
from sprat_proto.audit_events import Tag
from sprat_proto.states import DeviceState, ExecutionState
from sqlmodel import select

NOW: Final = datetime(2026, 11, 26, 12, tzinfo=UTC)
FLEET: Final = 500


# The account


def test_what_is_seen_first_is_accounted_for() -> None:
    found = settle(Account({}, {}), {"a": "1"}, {}, NOW)
    assert found == Account({"a": "1"}, {})
    assert settle(found, {"a": "1"}, {"a": "2"}, NOW) == found


def test_another_digest_that_nothing_explains_is_news_once() -> None:
    known = Account({"a": "1"}, {})
    found = settle(known, {"a": "0"}, {"a": "1"}, NOW)
    assert found.news == (Fallback("a", "1", "0"),)
    assert found.accounted == {"a": "1"}
    again = settle(found, {"a": "0"}, {"a": "1"}, NOW)
    assert again.news == ()
    assert again.fallbacks == found.fallbacks
    assert settle(found, {"a": "9"}, {"a": "1"}, NOW).news == (Fallback("a", "1", "9"),)
    mended = settle(found, {"a": "1"}, {"a": "1"}, NOW)
    assert mended == Account({"a": "1"}, {}, mended=("a",))


def test_what_is_desired_explains_itself() -> None:
    assert settle(Account({"a": "1"}, {}), {"a": "2"}, {"a": "2"}, NOW).accounted == {"a": "2"}


def test_what_does_not_run_is_no_fallback_and_is_not_forgotten() -> None:
    known = Account({"a": "1"}, {})
    away = settle(known, {}, {"a": "1"}, NOW)
    assert away == known
    assert settle(away, {"a": "0"}, {"a": "1"}, NOW).news == (Fallback("a", "1", "0"),)
    assert settle(known, {}, {}, NOW) == Account({}, {})


def test_the_end_of_an_execution_explains_what_came_of_it() -> None:
    known = Account({"a": "1"}, {})
    assert explain(known, Ended("a", "2", "2", is_success=True)).accounted == {"a": "2"}
    committed = Account({"a": "2"}, {})
    back = explain(committed, Ended("a", "2", "1", is_success=False))
    assert back.accounted == {"a": "1"}
    # A failure to bring 2 does not explain why 0 runs where 1 did.
    assert explain(known, Ended("a", "2", "0", is_success=False)) == known
    assert explain(Account({}, {}), Ended("a", "2", "", is_success=False)) == Account({}, {})


digests = st.sampled_from("0123")
by_alias = st.dictionaries(st.sampled_from("ab"), digests)


@given(by_alias, by_alias, by_alias)
def test_only_what_neither_was_accounted_for_nor_is_desired_is_a_fallback(
    accounted: dict[str, str], running: dict[str, str], desired: dict[str, str]
) -> None:
    found = settle(Account(accounted, {}), running, desired, NOW)
    expected = {
        alias
        for alias, digest in running.items()
        if alias in accounted and digest not in (accounted[alias], desired.get(alias))
    }
    assert set(found.fallbacks) == {one.alias for one in found.news} == expected
    again = settle(found, running, desired, NOW)
    assert again.news == again.mended == ()
    assert again.accounted == found.accounted


# Over the real inbound path


def fell_back(world: World, tag: Tag = Tag.DEVICE_FELL_BACK) -> list[str]:
    return [record["subject"].removeprefix("device/") for record in world.audited(tag)]


def to(world: World, devices: list[SimDevice], release: str) -> None:
    """Roll a release out to all of them."""
    world.create(release)
    world.run_due()
    for device in devices:
        device.sync()
    world.run_due()


def go_back(device: SimDevice, former: AssignedModel) -> None:
    """Let the device run what it ran before, and say nothing."""
    device.committed[ALIAS] = former


@pytest.fixture
def two(world: World) -> World:
    world.publish("2.0.0", counter=2)
    return world


def test_a_fallback_after_the_commit_is_noticed_with_the_next_heartbeat(two: World) -> None:
    device = two.join("a")
    to(two, [device], "1.0.0")
    former = device.committed[ALIAS]
    to(two, [device], "2.0.0")
    new = device.committed[ALIAS]
    woken = two.woken
    go_back(device, former)
    device.heartbeat()
    (record,) = two.audited(Tag.DEVICE_FELL_BACK)
    expected = {"alias": ALIAS, "expected": new.digest, "found": former.digest}
    assert (record["subject"], record["detail"]) == ("device/a", expected)
    row = two.device("a")
    assert row.state == DeviceState.ERROR
    assert row.fallbacks == {
        ALIAS: {
            "expected": new.digest,
            "found": former.digest,
            "at": two.now.isoformat(timespec="milliseconds"),
        }
    }
    assert two.woken == woken + 1
    with two.database.reading() as session:
        (kept,) = session.exec(select(ObservedMetric)).all()
        assert (kept.digest, kept.fallbacks) == (new.digest, 1)
    device.heartbeat()
    device.hello()
    assert len(fell_back(two)) == 1


def test_a_fallback_is_over_when_what_should_run_runs(two: World) -> None:
    device = two.join("a")
    to(two, [device], "1.0.0")
    former = device.committed[ALIAS]
    to(two, [device], "2.0.0")
    new = device.committed[ALIAS]
    go_back(device, former)
    device.heartbeat()
    device.committed[ALIAS] = new
    device.heartbeat()
    assert two.device("a").fallbacks is None
    assert fell_back(two, Tag.DEVICE_RECOVERED) == ["a"]
    go_back(device, former)
    device.heartbeat()
    assert fell_back(two) == ["a", "a"]


def test_a_delayed_heartbeat_says_nothing_of_now(two: World) -> None:
    device = two.join("a")
    to(two, [device], "1.0.0")
    delayed = device.a_heartbeat()
    to(two, [device], "2.0.0")
    device.say(heartbeat=delayed)
    assert fell_back(two) == []


def test_an_agent_that_does_not_number_its_reports_there_is_not_judged(two: World) -> None:
    device = two.join("a")
    to(two, [device], "1.0.0")
    former = device.committed[ALIAS]
    to(two, [device], "2.0.0")
    go_back(device, former)
    beat = device.a_heartbeat()
    beat.ClearField("newest_report_seq")
    device.say(heartbeat=beat)
    assert fell_back(two) == []


def test_what_a_person_takes_back_or_stops_is_none(two: World) -> None:
    devices = [two.join(name) for name in "abc"]
    to(two, devices, "1.0.0")
    view = two.create("2.0.0")
    two.run_due()
    for device in devices[:2]:
        device.sync()
    away = devices[1]
    devices[2].heartbeat()
    devices[2].finish()  # and its report is not sent before all is taken back
    two.service.roll_back(view.id, OPERATOR)
    for _ in range(4):
        two.run_due()
        for device in (devices[0], devices[2]):
            device.sync()
    away.hello()
    away.sync()
    two.run_due()
    away.sync()
    assert fell_back(two) == []
    assert {one.committed[ALIAS].release for one in devices} == {"1.0.0"}


WAYS: Final = ("soaking", "committed", "offline", "restarted", "crashed-in-between")


def silently(world: World, device: SimDevice, former: AssignedModel, way: str) -> None:
    """Bring 2.0.0 to a device, and let it fall back to `former` in some way; then it is heard."""
    device.heartbeat()
    (wanted,) = device.under_way()
    if way == "soaking":
        # What is under watch answered already, as a heartbeat said; its end was not reported.
        device.send_reports()
        device.committed[ALIAS] = wanted
        device.heartbeat()
        go_back(device, former)
        device.heartbeat()
        return
    device.finish()
    if way == "crashed-in-between":
        # It is heard of for the first time when it fell back already.
        go_back(device, former)
        device.hello()
        device.send_reports()
        device.heartbeat()
        return
    device.send_reports()
    if way == "offline":
        world.conversation.disconnected(device.id, device.carrier)
        go_back(device, former)
        device.hello()
    elif way == "restarted":
        del device.committed[ALIAS]  # nothing is loaded yet
        device.hello()
        device.heartbeat()
        go_back(device, former)
        device.heartbeat()
    else:
        device.heartbeat()
        go_back(device, former)
        device.heartbeat()


def ordinarily(device: SimDevice, dice: random.Random) -> None:
    """Live on as devices do: finish, roll back and say so, be away, restart, repeat itself."""
    device.heartbeat()
    state = dice.choice([ExecutionState.SUCCEEDED, ExecutionState.ROLLED_BACK])
    before = dict(device.committed)
    if dice.random() < 0.5 and device.under_way():
        # It answers already, and then gives way again, or is kept.
        device.committed[ALIAS] = device.under_way()[0]
        device.heartbeat()
    if state is ExecutionState.ROLLED_BACK:
        device.committed = before
    device.finish(state)
    delayed = device.a_heartbeat()
    for act in dice.choices(["beat", "restart", "hello", "repeat", "reports", "cold"], k=4):
        running = dict(device.committed)
        match act:
            case "beat":
                device.heartbeat()
            case "restart":
                device.committed = {}
                device.hello()
                device.committed = running
                device.heartbeat()
            case "hello":
                device.hello()
            case "repeat":
                device.say(heartbeat=delayed, heard=False)
            case "reports":
                device.send_reports()
            case _:
                for report in list(device.reports)[::-1]:
                    device.say(report=report, heard=False)
    device.send_reports()
    device.heartbeat()


@pytest.mark.parametrize("seed", [7])
def test_500_of_500_silent_fallbacks_are_noticed_and_no_ordinary_life_is_one(seed: int) -> None:
    two = World()  # on SQLite: a thousand devices take their time
    two.publish("1.0.0")
    two.publish("2.0.0", counter=2)
    dice = random.Random(seed)  # noqa: S311 - which device does what
    falling = [two.join(f"falls-{number:03}") for number in range(FLEET)]
    living = [two.join(f"lives-{number:03}") for number in range(FLEET)]
    for device in (*falling[::2], *living[::2]):
        device.carrier = "mqtt"
    to(two, [*falling, *living], "1.0.0")
    former = {one.id: one.committed[ALIAS] for one in falling}
    two.create("2.0.0")
    two.run_due()
    for number, device in enumerate(falling):
        silently(two, device, former[device.id], WAYS[number % len(WAYS)])
    for device in living:
        ordinarily(device, dice)
    assert sorted(fell_back(two)) == [one.id for one in falling]
    assert [one.id for one in living if two.device(one.id).fallbacks] == []
    two.close()
