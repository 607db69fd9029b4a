"""The sixteen faults that other fleets had: each a test of its name, at the level where it would
show. Where they were found stands in each docstring, and in docs/rollouts.md.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from simulators.blob_source import BlobSource, serving
from simulators.controlled import ALIAS, BIG, SMALL, World
from simulators.device import Device, Disk, PowerCutError
from simulators.http_world import HttpWorld
from simulators.pki import Pki
from simulators.signed import PIECE, assigned, release
from simulators.small_book import SmallBook, SmallFleet, run
from simulators.trusting import HARDWARE, WorldRemote, judge, trusting
from simulators.tuf_world import TufWorld
from simulators.waiting import until
from sprat_agent.link import backoff
from sprat_agent.registry.fetch import Access, Fetcher, Sources
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.registry.store import Store
from sprat_agent.state import State
from sprat_agent.sync import phases
from sprat_agent.sync.phases import Event
from sprat_agent.sync.ports import RetryLaterError
from sprat_controller.access.policy import GRANTS, Permission, Role
from sprat_controller.errors import ConflictError
from sprat_controller.link.conversation import reconnect_spread_s
from sprat_controller.rollout.phases import RolloutEvent
from sprat_controller.rollout.strategy import (
    AbortCriterion,
    Deadlines,
    DisruptionBudget,
    Group,
    Membership,
    Pace,
    Retries,
    Strategy,
)
from sprat_proto.audit_events import Tag
from sprat_proto.manifest import Activation
from sprat_proto.states import DeviceState, ExecutionState, GroupState, ReasonCode, RolloutState

BEGIN = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
OLD = release("1.0.0", [b"old"], counter=1)
SOAKED = release("2.0.0", [b"soaked"], counter=2, activation=Activation(soak_s=3600))
DATA = bytes(range(256)) * 250
CANARY = (Group(name="canary", devices=1, soak_s=600), Group(name="rest"))
S = ExecutionState


# The small fleet: the planner over the reference book


def a_fleet(*names: str, site: str = "") -> SmallFleet:
    fleet = SmallFleet(BEGIN)
    for name in names:
        fleet.add(name, site)
    return fleet


def begun(fleet: SmallFleet, strategy: Strategy, name: str = "r1") -> SmallBook:
    book = SmallBook(fleet, name, f"{name}.0.0", strategy, sorted(fleet.rows))
    book.person(RolloutEvent.START)
    run(book, fleet.now)
    return book


def sync(fleet: SmallFleet, name: str, event: Event = Event.DONE, code: str = "") -> None:
    """Let a device hear, work and tell; its first phase that can come to `event` does."""
    device = fleet.rows[name].device
    is_pending = event is not Event.DONE
    for _ in range(50):
        fleet.hear(name)
        goes_wrong = is_pending and any(
            phases.is_under_way(task.phase) and phases.takes(task.phase, event)
            for task in device.tasks
        )
        is_pending = is_pending and not goes_wrong
        is_busy = device.act(event, ReasonCode(code)) if goes_wrong else device.act()
        for report in list(device.outbox):
            fleet.take_in(name, report)
        if not is_busy:
            return
    raise AssertionError(f"{name} is never at rest")


def states(book: SmallBook) -> dict[str, ExecutionState]:
    return {one.device: one.state for one in book.runs.values()}


def wait(fleet: SmallFleet, **much: float) -> None:
    """Let time pass, and every rollout look when it is due."""
    fleet.now += timedelta(**much)
    for book in fleet.books:
        run(book, fleet.now)


# 1


def test_01_a_success_that_silently_falls_back_is_noticed_and_counts(world: World) -> None:
    """hawkbit#3185, rauc-hawkbit-updater#161, zephyr#71750: success was said, then it went back."""
    world.publish("2.0.0", counter=2)
    devices = [world.join(name) for name in ("a", "b", "c")]
    world.create("1.0.0")
    world.run_due()
    for device in devices:
        device.sync()
    world.run_due()
    former = devices[0].committed[ALIAS]
    view = world.create("2.0.0", strategy=Strategy(groups=CANARY))
    world.run_due()
    (canary,) = [one for one in devices if world.states(view.id)[one.id] is S.IN_PROGRESS]
    canary.sync()
    world.run_due()
    assert world.service.get(view.id).groups[0].state is GroupState.SOAKING
    canary.committed[ALIAS] = former
    canary.heartbeat()
    world.run_due()
    assert world.device(canary.id).state == DeviceState.ERROR
    assert world.states(view.id)[canary.id] is S.ROLLED_BACK
    assert world.state(view.id) == RolloutState.PAUSED
    world.wait(seconds=601)
    world.run_due()
    assert S.IN_PROGRESS not in world.states(view.id).values()


# 2


def test_02_a_stored_success_that_is_sent_again_after_a_rollback_changes_nothing(
    world: World,
) -> None:
    """mender#116: the device sent its stored success again after it had rolled back."""
    device = world.join("a")
    view = world.create()
    world.run_due()
    device.heartbeat()
    device.finish(S.SUCCEEDED)
    stored = list(device.reports)
    device.send_reports()
    world.run_due()
    world.service.roll_back(view.id, "token:ann")
    world.run_due()
    for _, message in world.pushed:
        device.hear(message)
    device.sync()
    world.run_due()
    assert world.states(view.id) == {"a": S.ROLLED_BACK}
    for report in stored:
        device.say(report=report)
    success = stored[-1]
    success.seq = device.last_seq + 1
    device.last_seq += 1
    device.say(report=success)
    world.run_due()
    assert world.states(view.id) == {"a": S.ROLLED_BACK}
    assert world.audited(Tag.EXECUTION_REPORTED_LATE)


# 3


async def test_03_killed_between_activation_and_commit_it_goes_back_to_the_old_model(
    tmp_path: Path,
) -> None:
    """aws-greengrass-nucleus#1838: the later rollback brought back the new version."""
    disk = Disk({one.digest: one for one in (OLD, SOAKED)})
    first = Device(tmp_path, disk)
    first.assign(assigned(1, [OLD.wanted("e-old")]))
    await first.live()
    first.close()

    def cut(execution: str, phase: str, moment: str) -> None:
        if (execution, phase, moment) == ("e-new", "SOAKING", "entered"):
            raise PowerCutError

    device = Device(tmp_path, disk, cut)
    device.assign(assigned(2, [SOAKED.wanted("e-new")]))
    with pytest.raises(PowerCutError):
        await device.live()
    device.cut_power()
    again = Device(tmp_path, disk)
    running = asyncio.create_task(again.live())
    await until(lambda: again.workers.candidates)
    again.workers.crash("assistant")
    await running
    assert again.phase("e-new") is S.ROLLED_BACK
    assert again.answers() == OLD.digest
    again.close()


# 4


async def test_04_an_execution_of_the_same_rollout_runs_again_after_it_left_and_came_back(
    tmp_path: Path,
) -> None:
    """aws-greengrass-lite#1127: a device that left and came back did not do it a second time."""
    fleet = a_fleet("a")
    book = begun(fleet, Strategy())
    sync(fleet, "a", Event.FAILED, "DOWNLOAD_FAILED")
    run(book, fleet.now)
    assert states(book) == {"a": S.FAILED}
    book.retry_failed()
    run(book, fleet.now)
    sync(fleet, "a")
    run(book, fleet.now)
    assert states(book) == {"a": S.SUCCEEDED}
    assert fleet.rows["a"].device.active == "r1.0.0"
    # And on the device: the id is the same, the name is not, so it is run.
    disk = Disk({one.digest: one for one in (OLD, SOAKED)})
    plain = release("3.0.0", [b"plain"], counter=3)
    disk.releases[plain.digest] = plain
    device = Device(tmp_path, disk)
    for version, wanted in enumerate(
        [plain.wanted("e1"), OLD.wanted("e0"), plain.wanted("e1.2")], 1
    ):
        device.assign(assigned(version, [wanted]))
        await device.live()
        expected = OLD.digest if wanted.execution_id == "e0" else plain.digest
        if wanted.execution_id == "e0":
            assert device.phase("e0") is S.FAILED  # too old; it never ran here
            expected = plain.digest
        assert device.answers() == expected
    assert device.phase("e1.2") is S.SUCCEEDED
    device.close()


# 5


def test_05_one_that_is_stuck_does_not_block_those_behind_it() -> None:
    """aws-greengrass-nucleus#807, #1161, #1203: a stuck deployment held up all later ones."""
    fleet = a_fleet("a", "b", "c")
    strategy = Strategy(pace=Pace(max_in_progress=1), deadlines=Deadlines(execution_s=3600))
    book = begun(fleet, strategy)
    (stuck,) = [name for name, state in states(book).items() if state is S.IN_PROGRESS]
    fleet.hear(stuck)
    for _ in range(5):
        for name in sorted(set(fleet.rows) - {stuck}):
            sync(fleet, name)
        wait(fleet, seconds=1_801)
        fleet.hear(stuck)
    found = states(book)
    assert found.pop(stuck) is S.TIMED_OUT
    assert set(found.values()) == {S.SUCCEEDED}
    assert book.state is RolloutState.FINISHED
    # The device itself is not blocked either: what comes next takes the place of what is stuck.
    newer = begun(fleet, Strategy(), "r2")
    sync(fleet, stuck)
    assert states(newer)[stuck] is S.SUCCEEDED


# 6


@pytest.mark.parametrize("membership", Membership)
def test_06_a_device_that_was_offline_at_creation_comes_weeks_later(
    membership: Membership,
) -> None:
    """amazon-freertos#2651: a job for a device that was offline never reached it."""
    fleet = a_fleet("away", "here")
    fleet.lose("away")
    book = begun(fleet, Strategy(membership=membership))
    sync(fleet, "here")
    wait(fleet, hours=2)
    assert book.tally(0).excused == 1, "it counts no more"
    wait(fleet, days=21)
    is_waited_for = membership is Membership.CONTINUOUS
    assert states(book)["away"].is_final is not is_waited_for
    assert book.state is (RolloutState.RUNNING if is_waited_for else RolloutState.FINISHED)
    if not is_waited_for:
        # It ended as a state that says so, and fails nobody's threshold.
        assert book.runs["r1-away"].code is ReasonCode.OFFLINE
        assert book.tally(0).failures == 0
        return
    fleet.hear("away")
    run(book, fleet.now)
    sync(fleet, "away")
    assert states(book) == {"away": S.SUCCEEDED, "here": S.SUCCEEDED}


# 7


def test_07_a_download_that_cannot_be_resumed_any_more_ends_as_a_failure_that_is_told() -> None:
    """mender#1988: when its resumptions were used up the update hung without a word."""
    fleet = a_fleet("a")
    retries = Retries(attempts=2, base_s=30, ceiling_s=60, penalty_s=600)
    book = begun(fleet, Strategy(retries=retries))
    for tries in range(3):
        assert book.runs["r1-a"].tries == tries
        sync(fleet, "a", Event.FAILED, "DOWNLOAD_FAILED")
        wait(fleet, seconds=61)
    one = book.runs["r1-a"]
    assert (one.state, one.code) == (S.FAILED, ReasonCode.DOWNLOAD_FAILED)
    assert fleet.rows["a"].penalty_until is not None
    assert book.state is RolloutState.FINISHED


def test_07_a_download_that_hangs_without_a_word_ends_by_the_controllers_clock() -> None:
    """mender#1988: and where the device itself says nothing."""
    fleet = a_fleet("a")
    book = begun(fleet, Strategy())
    device = fleet.rows["a"].device
    fleet.hear("a")
    while not device.outbox or device.outbox[-1].step != "DOWNLOADING":
        device.act()
    for report in list(device.outbox):
        fleet.take_in("a", report)
    wait(fleet, seconds=1_801)
    one = book.runs["r1-a"]
    assert (one.state, one.code) == (S.TIMED_OUT, ReasonCode.NO_PROGRESS)


# 8


@pytest.mark.parametrize("percent", [10, 50, 90])
async def test_08_what_was_downloaded_before_a_power_cut_is_kept(
    tmp_path: Path, percent: int
) -> None:
    """ota-for-aws-iot-embedded-sdk#206, nerves_hub#80: a cut download began at 0 again."""
    authority = Pki()
    pair = authority.server()
    files = {"c.pem": pair.certificate_pem, "k.pem": pair.key_pem, "root.pem": authority.root_pem}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    access, state, world = Access(), State(tmp_path), TufWorld()
    trust = trusting(world, state, tmp_path, WorldRemote(world))

    def booted() -> LocalRegistry:
        fetcher = Fetcher(access, tmp_path / "root.pem")
        return LocalRegistry(Store(tmp_path), fetcher, judge(trust), trust.image_anchor, HARDWARE)

    one = release(data=[DATA])
    blobs = BlobSource(dict(one.blobs))
    with serving(blobs, tmp_path / "c.pem", tmp_path / "k.pem"):
        access.grant(Sources((blobs.url,), blobs.bearer))
        world.image.publish(one.manifest)
        plan = trust.director.check(world.plan("gw-1", 1, [one.wanted("e1")]))
        with state.transaction() as connection:
            trust.director.keep(connection, plan)
        cut = len(DATA) * percent // 100
        blobs.cut_after = [one.wanted("e1").size, cut]
        with pytest.raises(RetryLaterError):
            await booted().download(one.wanted("e1"))
        await booted().download(one.wanted("e1"))
    state.close()
    kept = cut // PIECE * PIECE
    assert blobs.ranges[-1] == f"bytes={kept}-{len(DATA) - 1}"
    sha256 = one.manifest.shards[0].sha256
    assert Store(tmp_path).blob(sha256).read_bytes() == DATA


# 9


def test_09_a_new_session_and_a_renewed_plan_change_no_final_state(world: World) -> None:
    """iot-hub-device-update#609, #625: after a token was refreshed it was installed once more."""
    device = world.join("a")
    view = world.create()
    world.run_due()
    device.sync()
    world.run_due()
    for _ in range(4):
        world.wait(days=1)
        world.conversation.disconnected("a", "grpc")
        device.hello()
        device.sync()
        world.run_due()
    assert world.states(view.id) == {"a": S.SUCCEEDED}
    assert world.state(view.id) == RolloutState.FINISHED
    assert set(device.runs.values()) == {1}


# 10


def test_10_a_device_whose_hardware_changes_in_mid_rollout_gets_what_fits_it(
    world: World,
) -> None:
    """iot-hub-device-update#611: it was given what its old class was planned."""
    device = world.join("a", BIG)
    view = world.create()
    world.run_due()
    big = world.first_execution(view.id).digest
    device.budget = SMALL
    device.hello()
    device.heartbeat()
    device.finish(S.REJECTED)
    device.send_reports()
    world.run_due()
    one = world.first_execution(view.id)
    assert one.state is S.IN_PROGRESS
    assert one.digest != big
    device.sync()
    world.run_due()
    assert device.committed[ALIAS].variant == "q4_0"
    assert world.states(view.id) == {"a": S.SUCCEEDED}


# 11


def test_11_two_groups_that_fail_at_once_pause_the_rollout_once() -> None:
    """hawkbit PR#2161: the second of two groups that failed in one tick broke the scheduler."""
    criterion = AbortCriterion(percent=50, min_count=1)
    groups = (Group(devices=1, success_percent=0), Group(devices=1, success_percent=0), Group())
    fleet = a_fleet("a", "b", "c")
    book = begun(fleet, Strategy(groups=groups, abort=(criterion,), pace=Pace(max_in_progress=2)))
    under_way = [name for name, state in states(book).items() if state is S.IN_PROGRESS]
    assert {book.runs[f"r1-{name}"].group for name in under_way} == {0, 1}
    for name in under_way:
        sync(fleet, name, Event.FAILED, "DIGEST_MISMATCH")
    run(book, fleet.now)
    decided = [entry for entry in fleet.journal if entry.what == "abort"]
    assert (book.state, len(decided)) == (RolloutState.PAUSED, 1)
    assert book.abort is not None
    book.carry_out(book.abort.decision, fleet.now)  # another replica decided the same
    run(book, fleet.now)
    assert [entry for entry in fleet.journal if entry.what == "abort"] == decided
    assert sum(state is S.IN_PROGRESS for state in states(book).values()) == 0


# 12


def test_12_a_group_whose_devices_are_removed_is_reckoned_anew(world: World) -> None:
    """hawkbit PR#328: deleted targets stayed in the count, and the next group never started."""
    devices = {name: world.join(name) for name in ("a", "b", "c", "d")}
    groups = (Group(devices=3), Group())
    view = world.create(strategy=Strategy(groups=groups))
    world.run_due()
    first = [name for name, state in world.states(view.id).items() if state is S.IN_PROGRESS]
    (last,) = set(devices) - set(first)
    for name in first[:2]:
        devices[name].sync()
    world.run_due()
    assert world.states(view.id)[last] is S.QUEUED
    world.remove(first[2])
    world.wait(seconds=61)
    world.run_due()
    assert world.states(view.id)[first[2]] is S.REMOVED
    assert world.states(view.id)[last] is S.IN_PROGRESS


# 13


def test_13_who_looked_at_an_earlier_group_does_not_promote_a_later_one(world: World) -> None:
    """proto-fleet#1019: an approval given on a stale page let the wrong group start."""
    devices = {name: world.join(name) for name in ("a", "b", "c")}
    groups = tuple(Group(devices=1, waits_for_promotion=True) for _ in range(2))
    view = world.create(strategy=Strategy(groups=(*groups, Group())))
    world.run_due()
    stale = world.service.get(view.id)
    for device in devices.values():
        device.sync()
    world.run_due()
    promoted = world.service.promote(view.id, 0, "token:ann", expected_revision=stale.revision)
    world.run_due()
    assert promoted.revision > stale.revision
    for device in devices.values():
        device.sync()
    world.run_due()
    with pytest.raises(ConflictError, match="look again"):
        world.service.promote(view.id, 1, "token:bob", expected_revision=stale.revision)
    world.run_due()
    started = [group.state for group in world.service.get(view.id).groups]
    assert started == [GroupState.FINISHED, GroupState.RUNNING, GroupState.SCHEDULED]


# 14


def test_14_one_that_failed_and_is_offline_keeps_its_slot_of_the_budget() -> None:
    """proto-fleet#1014: a site lost one device after the other, each freeing its slot."""
    fleet = a_fleet("a", "b", "c", site="north")
    book = begun(fleet, Strategy(budgets=(DisruptionBudget(max_unavailable=1),)))
    (one,) = [name for name, state in states(book).items() if state is S.IN_PROGRESS]
    sync(fleet, one, Event.FAILED, "DIGEST_MISMATCH")
    fleet.lose(one)
    wait(fleet, hours=5)
    assert Counter(states(book).values()) == {S.FAILED: 1, S.QUEUED: 2}
    fleet.hear(one)
    wait(fleet, seconds=60)
    assert Counter(states(book).values()) == {S.FAILED: 1, S.QUEUED: 1, S.IN_PROGRESS: 1}


# 15


def test_15_a_fleet_that_lost_its_controller_comes_back_spread_out() -> None:
    """flowfuse#5782, silk-release#26: all came back at once, and brought it down again."""
    devices = 20_000
    spread = reconnect_spread_s(devices)
    dice = random.Random(15)  # noqa: S311 - a test's dice
    first = Counter(int(backoff.first_delay_s(spread, dice.uniform)) for _ in range(devices))
    assert max(first.values()) <= 2 * devices / spread
    # Those that find nobody are not in step either, and wait longer each time.
    for attempt in (3, 6, 9):
        ceiling = min(backoff.CEILING_S, backoff.BASE_S * 2**attempt)
        waits = Counter(int(backoff.delay_s(attempt, dice.uniform)) for _ in range(devices))
        assert max(waits.values()) <= 2 * devices / ceiling


def test_15_a_heartbeat_of_each_device_after_a_restart_wakes_no_rollout_at_rest(
    world: World,
) -> None:
    """silk-release#26: and nothing that is done is done anew for each that comes back."""
    devices = [world.join(f"d{number}") for number in range(20)]
    view = world.create()
    world.run_due()
    for device in devices:
        device.sync()
    world.run_due()
    world.pushed.clear()
    woken = world.woken
    world.conversation.forget_presence()
    for device in devices:
        device.hello()
        device.heartbeat()
    world.run_due()
    assert (world.pushed, world.woken) == ([], woken)
    assert world.state(view.id) == RolloutState.FINISHED


# 16


async def test_16_who_may_not_change_rollouts_cannot_do_so_for_many_at_once(
    tmp_path: Path,
) -> None:
    """CVE-2026-28806: bulk endpoints did not ask what the single ones ask."""
    world = HttpWorld(tmp_path)
    bulk: list[tuple[str, str, dict[str, object]]] = [
        ("POST", "/api/v1/rollouts", {"model": "m", "release": "1.0.0", "alias": "a"}),
        ("POST", "/api/v1/bundles", {"devices": ["a", "b"]}),
        *[("POST", f"/api/v1/rollouts/x/{verb}", {}) for verb in ("start", "pause", "stop")],
    ]
    for role in Role:
        client = world.client(role)
        for method, path, body in bulk:
            answer = await client.send(method, path, json=body)
            may = Permission.ROLL_OUT in GRANTS[role]
            assert (answer.status_code != 403) is may, (role, path, answer.status_code)
    assert not world.parts.rollouts.list()
