from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout.budget import Load
from sprat_controller.rollout.facts import Verdict
from sprat_controller.rollout.plan import Reason
from sprat_controller.rollout.strategy import DisruptionBudget, Pace, Strategy, WindowSpec
from sprat_controller.rollout.why import rules
from sprat_controller.rollout.why.known import (
    AliasAt,
    DeviceAt,
    GroupAt,
    RolloutAt,
    RunAt,
    Wanted,
)
from sprat_controller.rollout.why.rules import Answer
from sprat_proto.states import ExecutionState, GroupState, ReasonCode, RolloutState, Step

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
DIGEST, OTHER = "4" * 64, "5" * 64
SITE = {"site": "lyon"}
DEVICE = DeviceAt("gw-1", last_seen_at=NOW, labels=SITE)
ROLLOUT = RolloutAt("r-1", "talk@1.1.0", RolloutState.RUNNING, looks_at=LATER)
FIRST = GroupAt(0, GroupState.RUNNING, "canary", succeeded=3, counting=9)
SECOND = GroupAt(1, GroupState.SCHEDULED, "rest")
QUEUED = RunAt(ExecutionState.QUEUED, digest=DIGEST)
UNDER_WAY = RunAt(ExecutionState.IN_PROGRESS, Step.PROBING, DIGEST, deadline_at=LATER)
SUCCEEDED = RunAt(ExecutionState.SUCCEEDED, digest=DIGEST)
ONE_A_SITE = Strategy(budgets=(DisruptionBudget(max_unavailable=1),))
FULL = Load(down={"site": {"lyon": 1}})
NIGHTLY = WindowSpec(cron="0 1 * * *", duration_s=3600)

moments = st.none() | st.sampled_from((NOW - timedelta(hours=1), NOW, LATER))
words = st.sampled_from(("", "3 of 9 ended FAILED", "{odd}"))
counts = st.integers(0, 3)
reasons = st.none() | st.builds(
    Reason, st.sampled_from((*ReasonCode, "SOMETHING_NEW", "")), st.sampled_from(("", "no", "{}"))
)
windows = st.none() | st.sampled_from(
    (
        NIGHTLY,
        WindowSpec(cron="* * * * *", duration_s=60),
        WindowSpec(cron="0 0 30 2 *", duration_s=60),  # never opens
        WindowSpec(cron="no cron", duration_s=60, zone="Moon/Sea"),
    )
)
strategies = st.builds(
    Strategy,
    pace=st.builds(Pace, counts, counts),
    budgets=st.sampled_from(
        (
            (),
            ONE_A_SITE.budgets,
            (*ONE_A_SITE.budgets, DisruptionBudget(label="ring", max_unavailable_percent=10)),
        )
    ),
    download_window=windows,
    activate_window=windows,
    ends_at=st.sampled_from((0, int(NOW.timestamp()), int(LATER.timestamp()))),
    override=st.sampled_from(("", "the site burns")),
)
values = st.dictionaries(st.sampled_from(("", "lyon")), counts)
loads = st.builds(
    Load,
    counts,
    counts,
    moments,
    st.dictionaries(st.sampled_from(("site", "ring")), values),
    st.dictionaries(st.sampled_from(("site", "ring")), values),
)
groups = st.builds(
    GroupAt,
    counts,
    st.sampled_from(GroupState),
    words,
    moments,
    st.booleans(),
    st.none() | st.sampled_from(Verdict),
    words,
    st.booleans(),
    st.booleans(),
    counts,
    counts,
)
rollouts = st.builds(
    RolloutAt,
    st.just("r-1"),
    st.just("talk@1.1.0"),
    st.sampled_from(RolloutState),
    moments,
    moments,
    moments,
    words,
    strategies,
)
runs = st.builds(
    RunAt,
    st.sampled_from(ExecutionState),
    st.none() | st.sampled_from(Step),
    st.none() | st.just(DIGEST),
    counts,
    moments,
    moments,
    st.booleans(),
    st.booleans(),
    reasons,
)
wanted = st.builds(
    Wanted,
    rollouts,
    runs,
    st.none() | groups,
    st.none() | groups,
    st.sampled_from(("", "r-9")),
    loads,
    st.booleans(),
    st.booleans(),
)
devices = st.builds(
    DeviceAt,
    st.just("gw-1"),
    st.booleans(),
    st.none() | words,
    st.booleans(),
    moments,
    moments,
    st.sampled_from(({}, SITE)),
)
aliases = st.builds(
    AliasAt,
    st.sampled_from(("assistant", "vision")),
    st.none() | st.sampled_from((DIGEST, OTHER)),
    st.sampled_from(("", "talk@1.0.0")),
    st.none() | wanted,
)


@given(devices, st.lists(aliases, max_size=3))
def test_every_combination_of_facts_has_one_answer_that_says_what_is_next(
    device: DeviceAt, known: list[AliasAt]
) -> None:
    found = rules.answers(device, known, NOW)
    assert [one.alias for one in found] == ([one.alias for one in known] or [""])
    for one in found:
        assert one.code in {*ReasonCode}
        assert one.message.isprintable()
        assert one.message.strip() not in ("", "gw-1")
        assert one.then
        assert one.do
        assert "{" not in one.do
        assert one.at is None or one.at > NOW


@given(devices, aliases)
def test_what_is_in_sync_never_waits_and_what_waits_is_not_over(
    device: DeviceAt, known: AliasAt
) -> None:
    (answer,) = rules.answers(device, [known], NOW)
    run = known.wanted.run if known.wanted else None
    if answer.code is ReasonCode.NOT_TARGETED and run is not None:
        assert run.reason is not None
    own = run is not None and run.reason is not None and run.reason.code == answer.code
    if answer.code is ReasonCode.IN_SYNC and not own:
        assert run is not None
        assert run.state is ExecutionState.SUCCEEDED
        assert known.running == run.digest
    if answer.code in (ReasonCode.WAITING_TURN, ReasonCode.RATE_LIMIT) and not own:
        assert run is not None
        assert run.state is ExecutionState.QUEUED
        assert known.wanted is not None
        assert known.wanted.rollout.state in (RolloutState.STARTING, RolloutState.RUNNING)


@given(wanted)
def test_an_override_is_never_held_by_a_limit(known: Wanted) -> None:
    urgent = Strategy(pace=Pace(1, 1), budgets=ONE_A_SITE.budgets, override="the site burns")
    known = replace(known, rollout=replace(known.rollout, strategy=urgent), run=QUEUED)
    assert asked(known).code not in (ReasonCode.RATE_LIMIT, ReasonCode.DISRUPTION_BUDGET)


@given(device=devices, alias=aliases, load=loads, is_down=st.booleans(), ahead=counts)
def test_what_limits_count_decides_only_for_whoever_is_next(
    *, device: DeviceAt, alias: AliasAt, load: Load, is_down: bool, ahead: int
) -> None:
    if alias.wanted is None or rules.is_next(device, alias.wanted, NOW):
        return
    run = replace(alias.wanted.run, ahead=ahead)
    counted = replace(alias.wanted, run=run, load=load, is_down=is_down)
    answer = rules.answers(device, [alias], NOW)
    assert rules.answers(device, [replace(alias, wanted=counted)], NOW) == answer


def asked(
    wants: Wanted | None,
    *,
    running: str | None = None,
    runs: str = "",
    device: DeviceAt = DEVICE,
) -> Answer:
    (answer,) = rules.answers(device, [AliasAt("assistant", running, runs, wants)], NOW)
    return answer


def queued(**rollout: Any) -> Wanted:
    return Wanted(replace(ROLLOUT, **rollout), QUEUED)


def behind(**before: Any) -> Wanted:
    return Wanted(ROLLOUT, QUEUED, SECOND, replace(FIRST, **before))


def enough(**before: Any) -> Wanted:
    return behind(is_enough=True, has_gate="verdict" in before, **before)


def soaked(**before: Any) -> Wanted:
    return enough(state=GroupState.SOAKING, soak_until=NOW, **before)


def run(state: ExecutionState, code: str = "", message: str = "") -> Wanted:
    reason = Reason(code, message) if code else None
    return Wanted(ROLLOUT, RunAt(state, digest=DIGEST, reason=reason))


@pytest.mark.parametrize(
    ("wants", "code", "says", "then", "at"),
    [
        (None, "NOT_TARGETED", "no rollout wants gw-1", "nothing by itself", None),
        (queued(), "WAITING_TURN", "gw-1 is the next in talk@1.1.0", "it starts", LATER),
        (
            Wanted(ROLLOUT, replace(QUEUED, ahead=3)),
            "WAITING_TURN",
            "3 devices are before gw-1 in talk@1.1.0",
            "it starts when those did",
            None,
        ),
        (
            replace(queued(), is_joining=True),
            "WAITING_TURN",
            "gw-1 came to the target of talk@1.1.0",
            "it is taken in",
            LATER,
        ),
        (queued(state=RolloutState.READY), "WAITING_START", "was not started", "nothing by", None),
        (
            queued(state=RolloutState.READY, held_back="held back: ann may not"),
            "WAITING_START",
            "was not started: held back: ann may not",
            "nothing by",
            None,
        ),
        (
            queued(state=RolloutState.SCHEDULED, start_at=LATER),
            "WAITING_START",
            "starts at 2026-11-26 13:00 UTC",
            "it starts",
            LATER,
        ),
        (
            queued(state=RolloutState.WAITING_FOR_APPROVAL),
            "WAITING_APPROVAL",
            "waits to be approved",
            "once enough approved it",
            None,
        ),
        (queued(state=RolloutState.PAUSED), "PAUSED", "is paused", "nothing by itself", None),
        (
            queued(state=RolloutState.PAUSED, aborted="3 of 9 failed"),
            "ABORTED",
            "is paused, because 3 of 9 failed",
            "nothing by itself",
            None,
        ),
        (
            queued(state=RolloutState.STOPPED, aborted="3 of 9 failed"),
            "ABORTED",
            "was stopped, because 3 of 9 failed",
            "nothing by itself",
            None,
        ),
        (
            queued(state=RolloutState.STOPPED, aborted="3 of 9 failed", stopped_by="user:ann"),
            "STOPPED_BY_OPERATOR",
            "was stopped by user:ann, after it was held because 3 of 9 failed",
            "nothing by itself",
            None,
        ),
        (
            queued(state=RolloutState.STOPPING),
            "STOPPED_BY_OPERATOR",
            "was stopped",
            "its run is canceled",
            None,
        ),
        (
            queued(state=RolloutState.ROLLING_BACK, aborted="3 of 9 ended FAILED"),
            "ROLLED_BACK_BY_ROLLOUT",
            "is being rolled back: 3 of 9",
            "its run is canceled",
            None,
        ),
        (
            Wanted(ROLLOUT, QUEUED, SECOND),
            "WAITING_GROUP",
            "its group 1 (rest) is the next",
            "its group starts",
            LATER,
        ),
        (
            behind(),
            "WAITING_GROUP",
            "1 (rest) waits for group 0 (canary), which is RUNNING: 3 of 9 succeeded",
            "once that one is done",
            None,
        ),
        (
            behind(state=GroupState.SOAKING, soak_until=LATER, verdict=Verdict.HOLD),
            "WAITING_GROUP",
            "under watch until 2026-11-26 13:00 UTC",
            "that group is judged",
            LATER,
        ),
        (enough(waits_for_promotion=True), "WAITING_PROMOTION", "to be promoted", "nothing", None),
        (behind(waits_for_promotion=True), "WAITING_GROUP", "3 of 9", "once that one is", None),
        (enough(verdict=None), "GATE_HOLD", "it was not judged yet", "judged again", None),
        (enough(verdict=Verdict.PASS), "WAITING_GROUP", "RUNNING", "once that one is done", None),
        (
            queued(strategy=Strategy(ends_at=int(NOW.timestamp()))),
            "DEADLINE_PASSED",
            "starts nothing after 2026-11-26 12:00 UTC",
            "its run is canceled",
            LATER,
        ),
        (soaked(waits_for_promotion=True), "WAITING_PROMOTION", "to be promoted", "nothing", None),
        (
            soaked(waits_for_promotion=True, verdict=Verdict.HOLD, judgement="3 of 5 told"),
            "GATE_HOLD",
            "has insufficient data: 3 of 5 told",
            "judged again",
            None,
        ),
        (
            soaked(verdict=Verdict.FAIL, judgement="c1 is 20 % slower"),
            "GATE_FAILED",
            "the gate of group 0 (canary) failed: c1 is 20 % slower",
            "nothing by itself",
            None,
        ),
        (
            replace(
                soaked(verdict=Verdict.FAIL), rollout=replace(ROLLOUT, state=RolloutState.PAUSED)
            ),
            "GATE_FAILED",
            "is worse than before",
            "nothing by itself",
            None,
        ),
        (behind(state=GroupState.ERROR), "ABORTED", "which was given up", "nothing", None),
        (
            Wanted(ROLLOUT, QUEUED, replace(SECOND, state=GroupState.ERROR)),
            "ABORTED",
            "its group 1 (rest) was given up",
            "its run is canceled",
            LATER,
        ),
        (
            replace(behind(), run=replace(QUEUED, retry_at=LATER, reason=Reason("X", "no net"))),
            "WAITING_RETRY",
            "an attempt on gw-1 failed: no net",
            "it is tried again",
            LATER,
        ),
        (
            replace(behind(), outranked_by="r-9"),
            "LOWER_PRIORITY",
            "rollout r-9 of higher priority",
            "once rollout r-9 is done there",
            None,
        ),
        (
            Wanted(ROLLOUT, replace(QUEUED, is_excused=True)),
            "OFFLINE",
            "talk@1.1.0 goes on without gw-1, which was not heard of since",
            "once it is heard of",
            None,
        ),
        (
            replace(queued(strategy=ONE_A_SITE), load=FULL),
            "DISRUPTION_BUDGET",
            "the limit site=lyon (1 down, of at most 1)",
            "as soon as there is room",
            None,
        ),
        (
            replace(queued(strategy=ONE_A_SITE), load=FULL, is_down=True),
            "WAITING_TURN",
            "is the next",
            "it starts",
            LATER,
        ),
        (
            replace(queued(strategy=Strategy(pace=Pace(2))), load=Load(in_progress=2)),
            "RATE_LIMIT",
            "max_in_progress (2 are under way, of at most 2)",
            "as soon as there is room",
            None,
        ),
        (
            replace(
                queued(strategy=Strategy(pace=Pace(0, 5))),
                load=Load(starts_last_minute=5, oldest_start_at=NOW - timedelta(seconds=20)),
            ),
            "RATE_LIMIT",
            "starts_per_minute (5 started within a minute, of at most 5)",
            "as soon as there is room",
            NOW + timedelta(seconds=40),
        ),
        (Wanted(ROLLOUT, UNDER_WAY), "IN_PROGRESS", "PROBING", "it ends, or", LATER),
        (
            Wanted(ROLLOUT, replace(UNDER_WAY, step=Step.WAITING_WINDOW)),
            "WAITING_WINDOW",
            "waits for its window",
            "the window opens",
            None,
        ),
        (
            Wanted(
                replace(ROLLOUT, strategy=Strategy(activate_window=NIGHTLY)),
                replace(UNDER_WAY, step=Step.WAITING_WINDOW),
            ),
            "WAITING_WINDOW",
            "waits for its window",
            "the window opens",
            datetime(2026, 11, 27, 1, 0, tzinfo=UTC),
        ),
        (
            Wanted(ROLLOUT, replace(UNDER_WAY, is_reverting=True)),
            "ROLLED_BACK_BY_ROLLOUT",
            "returns from talk@1.1.0 to what it ran before",
            "it has returned",
            LATER,
        ),
        (
            run(ExecutionState.FAILED, "PROBE_FAILED", "wrong"),
            "PROBE_FAILED",
            "ended FAILED on gw-1: wrong",
            "nothing by itself",
            None,
        ),
        (run(ExecutionState.FAILED, "NEW", "odd"), "INTERNAL_ERROR", "odd", "nothing", None),
        (run(ExecutionState.TIMED_OUT), "DEADLINE_PASSED", "TIMED_OUT", "nothing", None),
        (run(ExecutionState.REJECTED), "NO_VARIANT_FITS", "REJECTED", "nothing", None),
        (
            run(ExecutionState.CANCELED, "SUPERSEDED", "a newer rollout, r-2, took its place"),
            "SUPERSEDED",
            "r-2, took its place",
            "nothing",
            None,
        ),
    ],
)
def test_what_holds_a_device_is_named(
    wants: Wanted | None, code: str, says: str, then: str, at: datetime | None
) -> None:
    answer = asked(wants)
    assert (answer.code, answer.at) == (ReasonCode(code), at)
    assert says in answer.message
    assert then in answer.then
    assert answer.rollout_id == (wants.rollout.id if wants else None)


def test_in_sync_is_what_it_runs_and_nothing_weaker() -> None:
    done = Wanted(ROLLOUT, SUCCEEDED)
    assert asked(done, running=DIGEST).code is ReasonCode.IN_SYNC
    reverted = asked(done, running=OTHER, runs="talk@1.0.0")
    assert reverted.code is ReasonCode.REVERTED
    assert "proved talk@1.1.0, and runs talk@1.0.0" in reverted.message
    assert asked(done).code is ReasonCode.REVERTED
    nothing = Wanted(ROLLOUT, RunAt(ExecutionState.SUCCEEDED))
    assert asked(nothing).code is ReasonCode.REVERTED
    away = replace(DEVICE, is_online=False)
    assert asked(done, running=OTHER, device=away).code is ReasonCode.OFFLINE
    told = asked(done, running=DIGEST, device=away)
    assert told.code is ReasonCode.IN_SYNC
    assert "was not heard of since" in told.message


def test_what_was_to_run_for_a_time_says_until_when() -> None:
    done = Wanted(replace(ROLLOUT, run_until=LATER), SUCCEEDED)
    runs = asked(done, running=DIGEST)
    assert (runs.code, runs.then, runs.at) == (ReasonCode.IN_SYNC, "it runs it no more", LATER)
    over = Wanted(replace(ROLLOUT, run_until=NOW), SUCCEEDED)
    assert asked(over).code is ReasonCode.PLAN_EXPIRED


def test_what_is_proved_and_is_rolled_back_says_so() -> None:
    taken = Wanted(replace(ROLLOUT, state=RolloutState.ROLLING_BACK, aborted="3 failed"), SUCCEEDED)
    answer = asked(taken, running=DIGEST)
    assert (answer.code, answer.at) == (ReasonCode.ROLLED_BACK_BY_ROLLOUT, LATER)
    assert "it returns to what it ran before" in answer.then


def test_what_is_true_of_the_device_comes_first() -> None:
    wants = Wanted(ROLLOUT, QUEUED)
    removed = replace(DEVICE, is_removed=True, quarantine="a copy")
    assert asked(wants, device=removed).code is ReasonCode.DEVICE_REMOVED
    held = asked(wants, device=replace(DEVICE, quarantine="a copy of it renewed"))
    assert held.code is ReasonCode.IN_QUARANTINE
    assert "a copy of it renewed" in held.message
    assert held.do.startswith("`sprat devices release-quarantine gw-1`")
    punished = asked(wants, device=replace(DEVICE, penalty_until=LATER))
    assert (punished.code, punished.at) == (ReasonCode.PENALTY, LATER)
    assert asked(wants, device=replace(DEVICE, penalty_until=NOW)).code is ReasonCode.WAITING_TURN


def test_a_device_that_is_away_is_said_to_be_beside_what_holds_it() -> None:
    away = replace(DEVICE, is_online=False)
    turn = asked(queued(), device=away)
    assert turn.code is ReasonCode.WAITING_TURN
    assert "(it was not heard of since 2026-11-26 12:00 UTC)" in turn.message
    given_out = asked(Wanted(ROLLOUT, UNDER_WAY), device=replace(away, last_seen_at=None))
    assert given_out.code is ReasonCode.OFFLINE
    assert "was never heard of" in given_out.message
    assert given_out.at == LATER


def test_a_failure_says_what_runs_meanwhile_and_until_when_nothing_starts() -> None:
    failed = run(ExecutionState.FAILED, "LOAD_FAILED", "no memory")
    punished = replace(DEVICE, penalty_until=LATER)
    answer = asked(failed, running=OTHER, runs="talk@1.0.0", device=punished)
    assert answer.message.endswith("no memory; it runs talk@1.0.0")
    assert (answer.then, answer.at) == ("rollouts may start there again", LATER)
