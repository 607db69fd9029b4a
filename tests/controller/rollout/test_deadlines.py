from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from sprat_controller.rollout.deadlines import Deadline, Standing, due, excused_until, returned
from sprat_controller.rollout.strategy import Deadlines, Membership, Strategy, WindowSpec
from sprat_proto.states import ReasonCode, Step

START = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
LIMITS = Deadlines(execution_s=7_200, no_progress_s=1_800, install_s=600, probe_s=300)
PLAIN = Strategy(deadlines=LIMITS)
NIGHT = WindowSpec(cron="0 22 * * *", duration_s=3_600)
LATER = WindowSpec(cron="0 23 * * *", duration_s=3_600)
STALE, OVER = ReasonCode.NO_PROGRESS, ReasonCode.DEADLINE_PASSED


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def at(hour: int) -> datetime:
    return START.replace(hour=hour)


def standing(step: Step | None, since: float = 0, told: float | None = None) -> Standing:
    if step is None:
        return Standing(START)
    return Standing(START, step, after(since), after(since if told is None else told))


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (standing(None), Deadline(after(7_200), OVER)),
        (standing(Step.DOWNLOADING, 10), Deadline(after(1_810), STALE)),
        (standing(Step.DOWNLOADING, 10, told=2_000), Deadline(after(3_800), STALE)),
        (standing(Step.DOWNLOADING, 10, told=7_000), Deadline(after(7_200), OVER)),
        (standing(Step.VERIFYING, 100), Deadline(after(700), STALE)),
        (standing(Step.INSTALLING, 100, told=500), Deadline(after(700), STALE)),
        (standing(Step.PROBING, 100), Deadline(after(400), STALE)),
        (standing(Step.PROBING, 7_100), Deadline(after(7_200), OVER)),
        (standing(Step.WAITING_WINDOW, 100), Deadline(after(7_200), OVER)),
        (standing(Step.SOAKING, 100), Deadline(after(7_200), OVER)),
        (standing(Step.COMMITTING, 100), Deadline(after(700), STALE)),
    ],
)
def test_a_step_has_its_own_deadline_and_the_whole_has_one(
    one: Standing, expected: Deadline
) -> None:
    assert due(PLAIN, one) == expected


def test_no_limit_on_a_step_leaves_that_of_the_whole() -> None:
    free = Strategy(deadlines=Deadlines(no_progress_s=0, install_s=0, probe_s=0))
    for step in Step:
        assert due(free, standing(step)) == Deadline(after(86_400), OVER)


def test_the_way_back_has_only_that_of_the_whole() -> None:
    back = replace(standing(Step.ROLLING_BACK), is_reverting=True)
    assert due(PLAIN, back) == Deadline(after(7_200), OVER)
    windowed = structs.replace(PLAIN, activate_window=NIGHT)
    assert due(windowed, back) == Deadline(after(7_200), OVER)


@pytest.mark.parametrize(
    ("strategy", "one", "expected"),
    [
        # It waits for ten at night, and has two hours from then.
        (structs.replace(PLAIN, activate_window=NIGHT), standing(None), at(22)),
        (structs.replace(PLAIN, activate_window=NIGHT), standing(Step.WAITING_WINDOW, 60), at(22)),
        # Of two windows the later one counts.
        (
            structs.replace(PLAIN, download_window=NIGHT, activate_window=LATER),
            standing(Step.WAITING_WINDOW, 60),
            at(23),
        ),
        # It is open: the time runs.
        (
            structs.replace(PLAIN, activate_window=WindowSpec("0 12 * * *", 3_600)),
            standing(Step.WAITING_WINDOW, 60),
            after(60),
        ),
        # Once it goes on it has its time from there.
        (structs.replace(PLAIN, activate_window=NIGHT), standing(Step.SOAKING, 36_000), at(22)),
        # An emergency waits for no window.
        (
            structs.replace(PLAIN, activate_window=NIGHT, override="a leak"),
            standing(Step.WAITING_WINDOW, 60),
            START,
        ),
    ],
)
def test_waiting_for_a_window_takes_nothing_of_the_time(
    strategy: Strategy, one: Standing, expected: datetime
) -> None:
    assert due(strategy, one) == Deadline(expected + timedelta(hours=2), OVER)


@pytest.mark.parametrize(
    ("window", "told_s", "expected"),
    [
        # Open long enough: as without a window.
        (WindowSpec("0 12 * * *", 3_600), 60, after(1_860)),
        # It closes at one, before half an hour has passed: these begin at twelve tomorrow.
        (WindowSpec("0 12 * * *", 3_600), 3_300, after(86_400 + 1_800)),
        # The device told that it waits, when it closed.
        (WindowSpec("0 12 * * *", 3_600), 3_600, after(86_400 + 1_800)),
        (NIGHT, 60, at(22) + timedelta(minutes=30)),
    ],
)
def test_a_download_that_its_window_cut_off_is_not_stuck(
    window: WindowSpec, told_s: int, expected: datetime
) -> None:
    limits = structs.replace(PLAIN.deadlines, execution_s=7 * 86_400)
    strategy = structs.replace(PLAIN, download_window=window, deadlines=limits)
    told = replace(standing(Step.DOWNLOADING), told_at=after(told_s))
    assert due(strategy, told) == Deadline(expected, STALE)
    hurried = structs.replace(strategy, override="a leak")
    assert due(hurried, told) == Deadline(after(told_s + 1_800), STALE)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        # Half an hour is left of this opening, then an hour each day at noon.
        (0.25, after(1_800 + 900)),
        (0.5, after(3_600)),
        (1, after(86_400 + 1_800)),
        (3, after(3 * 86_400 + 1_800)),
        # After 64 openings what is missing is counted on without them: it ends all the same.
        (100, after(63 * 86_400 + 3_600 + int(36.5 * 3_600))),
    ],
)
def test_a_download_over_several_nights_has_the_time_in_which_its_window_is_open(
    hours: float, expected: datetime
) -> None:
    limits = Deadlines(execution_s=int(hours * 3_600), no_progress_s=0)
    noon = WindowSpec("0 12 * * *", 3_600)
    strategy = structs.replace(PLAIN, download_window=noon, deadlines=limits)
    assert due(strategy, standing(Step.DOWNLOADING, 1_800)) == Deadline(expected, OVER)


@pytest.mark.parametrize("step", [Step.INSTALLING, Step.PROBING, Step.ACTIVATING])
def test_what_is_begun_again_in_a_closed_window_is_not_stuck(step: Step) -> None:
    limits = structs.replace(LIMITS, execution_s=7 * 86_400, install_s=600, probe_s=600)
    strategy = structs.replace(PLAIN, activate_window=NIGHT, deadlines=limits)
    tonight = START.replace(hour=22)
    # Open for long enough; cut off by its end; told of when it was closed.
    for since, goes_on in (
        (tonight, tonight),
        (tonight + timedelta(minutes=55), tonight + timedelta(days=1)),
        (START, tonight),
    ):
        found = due(strategy, Standing(START, step, since, since))
        assert found == Deadline(goes_on + timedelta(minutes=10), STALE)


def test_a_device_that_is_away_has_until_the_end_of_the_whole() -> None:
    assert excused_until(PLAIN, after(4_000), standing(Step.PROBING, 60)) == after(7_200)
    assert excused_until(PLAIN, after(4_000), None) == after(11_200)


def test_a_continuous_rollout_waits_for_it() -> None:
    continuous = structs.replace(PLAIN, membership=Membership.CONTINUOUS)
    assert excused_until(continuous, START, None) is None
    assert excused_until(continuous, START, standing(Step.PROBING)) is None
    assert due(continuous, standing(Step.PROBING)) == Deadline(after(300), STALE)


def test_a_device_that_is_back_begins_its_step_anew_and_if_it_is_waited_for_all() -> None:
    continuous = structs.replace(PLAIN, membership=Membership.CONTINUOUS)
    away, back = standing(Step.PROBING, 60), after(5_000)
    assert due(PLAIN, returned(PLAIN, away, back)) == Deadline(after(5_300), STALE)
    assert due(PLAIN, returned(PLAIN, standing(None), back)) == Deadline(after(7_200), OVER)
    assert due(continuous, returned(continuous, standing(None), back)).at == after(12_200)
    late = returned(continuous, standing(Step.SOAKING, 60), back)
    assert due(continuous, late) == Deadline(after(12_200), OVER)


WINDOWS = st.sampled_from([None, NIGHT, LATER])


@given(
    st.sampled_from([None, *Step]),
    st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)),
    st.tuples(WINDOWS, WINDOWS),
    st.booleans(),
)
def test_every_standing_has_an_end(
    step: Step | None,
    times: tuple[int, int],
    asked: tuple[WindowSpec | None, WindowSpec | None],
    is_reverting: bool,  # noqa: FBT001 - drawn
) -> None:
    strategy = structs.replace(PLAIN, download_window=asked[0], activate_window=asked[1])
    one = replace(standing(step, times[0], told=sum(times)), is_reverting=is_reverting)
    found = due(strategy, one)
    # A download of two hours in windows of one takes two nights.
    windowed = timedelta(days=2, hours=2)
    most = timedelta(hours=2) if not any(asked) or is_reverting else windowed
    since = one.started_at if not any(asked) else max(one.started_at, one.step_since or START)
    assert found.at <= since + most
    assert found.at > START
