"""When a recurring rollout is due, and when nothing comes of it: from values alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout.phases import ROLLOUT, RolloutEvent
from sprat_controller.rollout.recurring import rules
from sprat_controller.rollout.recurring.rules import Last, Offer, SkipCode
from sprat_proto.states import ExecutionState, RolloutState
from sprat_proto.windows import WindowError

FIRST_TUESDAY = "0 2 * * 2#1"
BERLIN = "Europe/Berlin"
ONE, TWO = Offer("1.0.0", 1), Offer("2.0.0", 2)
MOMENTS = st.integers(0, 3 * 366 * 86_400).map(
    lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
ZONES = st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"])
CRONS = st.sampled_from([FIRST_TUESDAY, "30 2 * * *", "15 1 * * sun", "0 0 L * *"])


def local(zone: str, *moment: int, fold: int = 0) -> datetime:
    year, month, day, hour, minute = moment
    there = datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone), fold=fold)
    return there.astimezone(UTC)


def due(cron: str, zone: str, after: datetime, count: int) -> list[datetime]:
    rule, found = rules.read(cron, zone), list[datetime]()
    for _ in range(count):
        moment = rules.next_due(rule, found[-1] if found else after)
        assert moment is not None
        found.append(moment)
    return found


def code(newest: Offer | None, last: Last | None) -> str | None:
    reason = rules.why_not(newest, last)
    return None if reason is None else reason.code


def test_the_first_tuesday_at_two_in_berlin_is_that_all_year_round() -> None:
    found = due(FIRST_TUESDAY, BERLIN, datetime(2026, 3, 1, tzinfo=UTC), 9)
    assert found[0] == local(BERLIN, 2026, 3, 3, 2, 0) == datetime(2026, 3, 3, 1, tzinfo=UTC)
    assert found[1] == local(BERLIN, 2026, 4, 7, 2, 0) == datetime(2026, 4, 7, 0, tzinfo=UTC)
    assert found[8] == local(BERLIN, 2026, 11, 3, 2, 0) == datetime(2026, 11, 3, 1, tzinfo=UTC)
    for moment in found:
        there = moment.astimezone(ZoneInfo(BERLIN))
        assert (there.isoweekday(), there.hour, there.minute) == (2, 2, 0)
        assert there.day <= 7


def test_a_moment_that_is_skipped_comes_after_the_gap_and_one_that_comes_twice_comes_once() -> None:
    spring = due("30 2 * * *", BERLIN, local(BERLIN, 2026, 3, 28, 12, 0), 2)
    assert spring == [datetime(2026, 3, 29, 1, tzinfo=UTC), local(BERLIN, 2026, 3, 30, 2, 30)]
    autumn = due("30 2 * * *", BERLIN, local(BERLIN, 2026, 10, 24, 12, 0), 2)
    assert autumn == [
        local(BERLIN, 2026, 10, 25, 2, 30, fold=0),
        local(BERLIN, 2026, 10, 26, 2, 30),
    ]
    howe = due("15 2 * * *", "Australia/Lord_Howe", datetime(2026, 10, 3, 6, tzinfo=UTC), 1)
    assert howe == [datetime(2026, 10, 3, 15, 30, tzinfo=UTC)]  # half an hour is skipped


@given(CRONS, ZONES, MOMENTS)
def test_there_is_one_moment_a_day_at_most_and_always_another(
    cron: str, zone: str, after: datetime
) -> None:
    found = due(cron, zone, after, 4)
    assert all(one > after for one in found)
    days = [one.astimezone(ZoneInfo(zone)).date() for one in found]
    assert days == sorted(set(days))
    for moment in found:
        again = rules.next_due(rules.read(cron, zone), moment - timedelta(seconds=1))
        assert again == moment


@pytest.mark.parametrize(
    ("cron", "zone"), [("0 2 * *", BERLIN), ("0 2 * * 2#6", BERLIN), ("0 2 * * *", "Mars/Base")]
)
def test_what_is_no_rule_is_refused(cron: str, zone: str) -> None:
    with pytest.raises(WindowError, match="expected"):
        rules.read(cron, zone)


def test_a_rule_that_never_comes_has_no_next_moment() -> None:
    rule = rules.read("0 2 30 2 *", BERLIN)
    assert rules.next_due(rule, datetime(2026, 1, 1, tzinfo=UTC)) is None


@given(st.sampled_from(RolloutState), st.sampled_from([ONE, TWO]), st.sampled_from([ONE, TWO]))
def test_nothing_begins_while_the_last_one_is_not_over(
    state: RolloutState, brought: Offer, newest: Offer
) -> None:
    found = code(newest, Last("r-1", state, brought))
    running = not rules.is_over(state)
    assert (found == SkipCode.STILL_RUNNING) == running
    if not running and newest.counter > brought.counter:
        assert found is None
    if not running and newest.counter < brought.counter:
        assert found == SkipCode.CHANNEL_WENT_BACK


def test_over_is_what_does_not_go_on_by_itself() -> None:
    over = {state for state in RolloutState if rules.is_over(state)}
    going_on = {RolloutEvent.START, RolloutEvent.PAUSE, RolloutEvent.RESUME, RolloutEvent.STOP}
    for state in RolloutState:
        ends = not going_on & set(ROLLOUT.get(state, {}))
        assert ends or state not in over
    assert over == {
        *(RolloutState.FINISHED, RolloutState.STOPPED),
        *(RolloutState.APPROVAL_DENIED, RolloutState.ROLLED_BACK),
    }


def test_what_was_ended_is_not_brought_again_and_what_was_finished_may_be() -> None:
    assert code(ONE, Last("r-1", RolloutState.STOPPED, ONE)) == SkipCode.ENDED_BEFORE
    assert code(ONE, Last("r-1", RolloutState.APPROVAL_DENIED, ONE)) == SkipCode.ENDED_BEFORE
    assert code(TWO, Last("r-1", RolloutState.STOPPED, ONE)) is None
    # Devices that came later, or failed, get it by another rollout.
    assert code(ONE, Last("r-1", RolloutState.FINISHED, ONE)) is None
    assert code(ONE, None) is None
    assert code(None, None) == SkipCode.CHANNEL_EMPTY


def test_who_waits_for_an_approval_is_told_so() -> None:
    reason = rules.why_not(TWO, Last("r-1", RolloutState.WAITING_FOR_APPROVAL, ONE))
    assert reason is not None
    assert reason.message == "the last rollout, r-1 of 1.0.0, waits for approval"


def test_a_rollout_that_would_change_nothing_is_needless() -> None:
    settled = {ExecutionState.SUCCEEDED: 3, ExecutionState.REJECTED: 1}
    reason = rules.why_needless(ONE, settled)
    assert reason is not None
    assert reason.code == SkipCode.ROLLED_OUT_ALREADY
    assert reason.message == "1.0.0 would change nothing: 3 devices run it, 1 cannot"
    assert rules.why_needless(ONE, {**settled, ExecutionState.QUEUED: 1}) is None
