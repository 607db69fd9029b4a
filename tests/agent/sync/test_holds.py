"""What is held, from values alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from simulators.signed import release
from sprat_agent.sync import holds, phases
from sprat_agent.sync.freshness import Time
from sprat_agent.sync.phases import TRANSITIONS, Phase
from sprat_agent.sync.plan import Execution, Hold, Over
from sprat_proto import windows
from sprat_proto.assignment import AT_ANY_TIME, Windows
from sprat_proto.states import ExecutionState, ReasonCode, Step
from sprat_proto.windows import WindowSpec

ONE = release()
START = datetime(2026, 1, 1, tzinfo=UTC)
PHASES = st.sampled_from([one for one in TRANSITIONS if not phases.is_final(one)])
NOWS = st.integers(0, 366 * 86_400).map(lambda seconds: START + timedelta(seconds=seconds))
SPECS = st.builds(
    WindowSpec,
    cron=st.sampled_from(["30 2 * * *", "0 22 * * fri", "*/20 1-3 L * 2#1"]),
    duration_s=st.integers(60, 86_400),
    zone=st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"]),
)
TIMES = st.builds(Windows, download=st.none() | SPECS, activate=st.none() | SPECS)
ACTIVATES = {Step.WAITING_WINDOW, Step.INSTALLING, Step.PROBING, Step.ACTIVATING}
NEVER_HELD = {Step.SOAKING, Step.COMMITTING, Step.ROLLING_BACK}


def judged(
    phase: Phase,
    times: Windows,
    now: datetime,
    *,
    is_known: bool = True,
    was_proved: bool = False,
    is_through: bool = False,
) -> Hold | Over | None:
    execution = Execution("e1", ONE.wanted("e1", windows=times), 256, phase)
    time = Time(now, now if is_known else None)
    return holds.judge(execution, time, was_proved=was_proved, is_through=is_through)


@given(phase=PHASES, now=NOWS, is_known=st.booleans())
def test_what_asks_for_no_time_is_never_held(
    phase: Phase, now: datetime, *, is_known: bool
) -> None:
    assert judged(phase, AT_ANY_TIME, now, is_known=is_known) is None


@given(PHASES, TIMES, NOWS)
def test_nothing_begins_outside_of_its_window_and_in_it_nothing_is_held(
    phase: Phase, times: Windows, now: datetime
) -> None:
    spec = times.activate if phase in ACTIVATES else times.download
    if phase in {*NEVER_HELD, Step.DOWNLOADED, Step.VERIFYING}:
        spec = None
    is_open = spec is None or windows.is_open(windows.parse(spec), now)
    assert (judged(phase, times, now) is None) == is_open


@given(PHASES, TIMES, NOWS)
def test_what_is_held_may_go_on_at_the_moment_that_it_is_told(
    phase: Phase, times: Windows, now: datetime
) -> None:
    hold = judged(phase, times, now)
    if isinstance(hold, Hold):
        assert hold.until is not None
        assert hold.until > now
        assert judged(phase, times, hold.until) is None
        assert judged(phase, times, hold.until - timedelta(seconds=1)) == hold


@given(phase=st.sampled_from(sorted(NEVER_HELD)), times=TIMES, now=NOWS, is_known=st.booleans())
def test_what_is_loaded_is_not_held_at_any_time(
    phase: Phase, times: Windows, now: datetime, *, is_known: bool
) -> None:
    late = Windows(times.download, times.activate, not_before=1 << 40, deadline=1)
    assert judged(phase, late, now, is_known=is_known) is None


@given(PHASES, SPECS, NOWS)
def test_while_the_time_is_not_known_windows_are_closed(
    phase: Phase, spec: WindowSpec, now: datetime
) -> None:
    hold = judged(phase, Windows(spec, spec), now, is_known=False)
    is_free = phase in {*NEVER_HELD, Step.DOWNLOADED, Step.VERIFYING}
    assert (hold is None) == is_free
    if hold is not None:
        assert isinstance(hold, Hold)
        assert hold.until is None


@given(PHASES, SPECS, NOWS)
def test_what_is_through_what_goes_back_and_an_emergency_are_not_held(
    phase: Phase, spec: WindowSpec, now: datetime
) -> None:
    assert judged(phase, Windows(spec, spec), now, is_through=True) is None
    assert judged(phase, Windows(spec, spec, deadline=1, override=True), now) is None
    back = Windows(spec, spec, is_way_back=True)
    assert judged(phase, back, now, was_proved=True) is None
    assert judged(phase, back, now) == judged(phase, Windows(spec, spec), now)


@given(phase=PHASES, now=NOWS, is_known=st.booleans())
def test_a_deadline_counts_also_by_what_was_signed_and_ends_only_what_is_not_loaded(
    phase: Phase, now: datetime, *, is_known: bool
) -> None:
    over = judged(phase, Windows(deadline=int(now.timestamp())), now, is_known=is_known)
    before = {ExecutionState.QUEUED, Step.DOWNLOADING, Step.DOWNLOADED, Step.VERIFYING}
    if phase in {*before, Step.WAITING_WINDOW, Step.INSTALLING}:
        assert isinstance(over, Over)
        assert over.reason.code is ReasonCode.DEADLINE_PASSED
    else:
        assert over is None
    assert judged(phase, Windows(deadline=int(now.timestamp()) + 1), now) is None


def test_moments_beyond_the_calendar_are_waited_for() -> None:
    hold = judged(ExecutionState.QUEUED, Windows(not_before=1 << 40, deadline=1 << 40), START)
    assert isinstance(hold, Hold)
    assert hold.reason.code is ReasonCode.WAITING_START
