from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout.budget import (
    PACE_WINDOW,
    Admission,
    Candidate,
    Load,
    admit,
    allowed,
    exhausted,
)
from sprat_controller.rollout.strategy import DisruptionBudget, Pace, Strategy
from sprat_proto.states import ReasonCode

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
ONE_PER_SITE = Strategy(budgets=(DisruptionBudget(max_unavailable=1),))


def queue(*sites: str) -> list[Candidate]:
    """Make candidates a, b, c ... at these sites; empty: at none."""
    return [
        Candidate(name, {"site": site} if site else {})
        for name, site in zip("abcdefgh", sites, strict=False)
    ]


def why(admission: Admission) -> dict[str, str]:
    return {one.execution_id: f"{one.code}: {one.limit}" for one in admission.held}


def test_without_limits_all_start_in_order() -> None:
    assert admit(Strategy(), Load(in_progress=10**6), queue("x", "y")) == Admission(("a", "b"), ())


def test_no_more_than_may_be_are_under_way() -> None:
    found = admit(Strategy(pace=Pace(max_in_progress=3)), Load(in_progress=1), queue(*"xyz"))
    assert found.starts == ("a", "b")
    assert why(found) == {"c": "RATE_LIMIT: max_in_progress (3 are under way, of at most 3)"}
    assert found.again_at is None


def test_no_more_than_may_be_start_within_a_minute() -> None:
    oldest = NOW - timedelta(seconds=40)
    load = Load(starts_last_minute=2, oldest_start_at=oldest)
    strategy = Strategy(pace=Pace(starts_per_minute=3))
    found = admit(strategy, load, queue("x", "y"))
    assert found.starts == ("a",)
    assert why(found) == {
        "b": "RATE_LIMIT: starts_per_minute (3 started within a minute, of at most 3)"
    }
    full = Load(starts_last_minute=3, oldest_start_at=oldest)
    assert admit(strategy, full, queue("x")).again_at == oldest + PACE_WINDOW
    assert admit(strategy, full, []).again_at is None


def test_a_full_site_holds_its_own_and_no_other() -> None:
    load = Load(down={"site": {"lyon": 1}})
    found = admit(ONE_PER_SITE, load, queue("lyon", "rome", "rome", "oslo"))
    assert found.starts == ("b", "d")
    assert why(found) == {
        "a": "DISRUPTION_BUDGET: site=lyon (1 down, of at most 1)",
        "c": "DISRUPTION_BUDGET: site=rome (1 down, of at most 1)",
    }


def test_devices_without_the_label_share_one_budget() -> None:
    found = admit(ONE_PER_SITE, Load(), queue("", ""))
    assert found.starts == ("a",)
    assert why(found)["b"] == "DISRUPTION_BUDGET: no site (1 down, of at most 1)"


def test_a_device_that_is_down_already_has_its_slot() -> None:
    load = Load(down={"site": {"lyon": 1}})
    again = Candidate("a", {"site": "lyon"}, is_down=True)
    other = Candidate("b", {"site": "lyon"})
    assert admit(ONE_PER_SITE, load, [again, other]).starts == ("a",)


def test_what_the_pace_holds_takes_no_slot() -> None:
    strategy = Strategy(pace=Pace(max_in_progress=1), budgets=ONE_PER_SITE.budgets)
    found = admit(strategy, Load(), queue("lyon", "lyon"))
    assert found.starts == ("a",)
    assert found.held[0].code is ReasonCode.RATE_LIMIT


def test_the_smallest_of_two_budgets_of_a_label_counts_and_a_start_counts_once() -> None:
    two = DisruptionBudget(max_unavailable=2)
    percent = DisruptionBudget(max_unavailable_percent=50)
    strategy = Strategy(budgets=(two, percent))
    load = Load(fleet={"site": {"lyon": 10, "rome": 3}})
    found = admit(strategy, load, queue("lyon", "lyon", "lyon", "rome", "rome"))
    assert found.starts == ("a", "b", "d")


def test_a_device_must_be_within_the_budgets_of_all_its_labels() -> None:
    strategy = Strategy(
        budgets=(
            DisruptionBudget(label="site", max_unavailable=1),
            DisruptionBudget(label="line", max_unavailable=1),
        )
    )
    candidates = [
        Candidate("a", {"site": "lyon", "line": "1"}),
        Candidate("b", {"site": "rome", "line": "1"}),  # its line is full: it takes no slot of rome
        Candidate("c", {"site": "rome", "line": "2"}),
    ]
    assert admit(strategy, Load(), candidates).starts == ("a", "c")


@pytest.mark.parametrize(
    ("percent", "devices", "expected"),
    [(10, 100, 10), (10, 99, 9), (10, 3, 1), (1, 0, 1), (100, 7, 7), (33, 100, 33)],
)
def test_a_percentage_is_rounded_down_and_at_least_one(
    percent: int, devices: int, expected: int
) -> None:
    assert allowed(DisruptionBudget(max_unavailable_percent=percent), devices) == expected


def test_an_override_skips_pace_and_budgets() -> None:
    strategy = Strategy(
        pace=Pace(max_in_progress=1, starts_per_minute=1),
        budgets=ONE_PER_SITE.budgets,
        override="CVE-2026-1: all at once",
    )
    load = Load(in_progress=9, starts_last_minute=9, down={"site": {"lyon": 9}})
    assert admit(strategy, load, queue("lyon", "lyon")).starts == ("a", "b")
    assert exhausted(strategy, load) == {}


def test_values_without_a_free_slot_are_told() -> None:
    load = Load(down={"site": {"lyon": 1, "rome": 0, "": 2}})
    assert exhausted(ONE_PER_SITE, load) == {"site": frozenset({"lyon", ""})}
    assert exhausted(ONE_PER_SITE, Load()) == {}


SITES = ["a", "b", ""]
counted = st.dictionaries(st.sampled_from(SITES), st.integers(0, 12))
budgets = st.one_of(
    st.builds(DisruptionBudget, max_unavailable=st.integers(1, 6)),
    st.builds(DisruptionBudget, max_unavailable_percent=st.integers(1, 100)),
)
strategies = st.builds(
    Strategy,
    pace=st.builds(Pace, max_in_progress=st.integers(0, 8), starts_per_minute=st.integers(0, 8)),
    budgets=st.lists(budgets, max_size=3).map(tuple[DisruptionBudget, ...]),
)
loads = st.builds(
    Load,
    in_progress=st.integers(0, 9),
    starts_last_minute=st.integers(0, 9),
    down=counted.map(lambda down: {"site": down}),
    fleet=counted.map(lambda fleet: {"site": fleet}),
)
candidates = st.lists(st.tuples(st.sampled_from(SITES), st.booleans()), max_size=20).map(
    lambda made: [
        Candidate(f"e{number}", {"site": site} if site else {}, is_down)
        for number, (site, is_down) in enumerate(made)
    ]
)


@given(strategies, loads, candidates)
def test_no_start_goes_over_a_limit_and_each_is_started_or_held_once(
    strategy: Strategy, load: Load, waiting: list[Candidate]
) -> None:
    found = admit(strategy, load, waiting)
    held = [one.execution_id for one in found.held]
    order = [one.execution_id for one in waiting]
    assert sorted([*found.starts, *held], key=order.index) == order
    assert [one for one in order if one in found.starts] == list(found.starts)
    started = [one for one in waiting if one.execution_id in found.starts]
    more = Counter(one.labels.get("site", "") for one in started if not one.is_down)
    for budget in strategy.budgets:
        for site, count in more.items():
            most = allowed(budget, load.fleet["site"].get(site, 0))
            assert load.down["site"].get(site, 0) + count <= most
    pace = strategy.pace
    if pace.max_in_progress and started:
        assert load.in_progress + len(started) <= pace.max_in_progress
    if pace.starts_per_minute and started:
        assert load.starts_last_minute + len(started) <= pace.starts_per_minute


@given(strategies, loads, candidates)
def test_one_is_held_only_by_a_limit_that_is_reached(
    strategy: Strategy, load: Load, waiting: list[Candidate]
) -> None:
    found = admit(strategy, load, waiting)
    full = exhausted(strategy, load)
    if not found.starts and not any(one.code is ReasonCode.RATE_LIMIT for one in found.held):
        assert all(one.labels.get("site", "") in full["site"] for one in waiting)
    if strategy.pace == Pace():
        assert all(one.code is ReasonCode.DISRUPTION_BUDGET for one in found.held)
    if not strategy.budgets:
        assert all(one.code is ReasonCode.RATE_LIMIT for one in found.held)
