"""Rollout strategies as Hypothesis draws them: each one that the controller lets through."""

from __future__ import annotations

from hypothesis import strategies as st
from sprat_controller.rollout.strategy import (
    AbortAction,
    AbortCriterion,
    Deadlines,
    DisruptionBudget,
    Extent,
    FailureType,
    Gate,
    Group,
    Membership,
    Pace,
    Retries,
    Strategy,
    WindowSpec,
)

_few = st.sampled_from((0, 1, 60, 90))
_some = st.sampled_from((1, 60, 90))
_filters = st.sampled_from(("", "cores >= 4", "site = a"))
_names = st.sampled_from(("", "a", "1 %", "1 %, a", "the rest", "a; b"))
_gates = st.none() | st.builds(
    Gate,
    min_decode=st.none() | _few,
    max_crashes=st.none() | _few,
    min_devices=_few,
    min_requests=_few,
)


def _slices() -> st.SearchStrategy[Group]:
    terms = {
        "name": _names,
        "success_percent": st.sampled_from((100, 90)),
        "soak_s": _few,
        "gate": _gates,
        "waits_for_promotion": st.booleans(),
        "filter": _filters,
    }
    counted = st.builds(Group, devices=_some, **terms)
    shares = st.builds(Group, percent=st.sampled_from((0.1, 0.125, 1.0, 9, 10)), **terms)
    return counted | shares


def _ladder(slices: list[Group], last: Group) -> tuple[Group, ...]:
    return (*slices, last)


_groups = st.builds(
    _ladder,
    st.lists(_slices(), max_size=3, unique_by=lambda one: one.name or id(one)),
    st.builds(Group, success_percent=st.sampled_from((100, 90)), soak_s=_few, gate=_gates),
)
_budgets = st.builds(
    DisruptionBudget, label=st.sampled_from(("site", "rack", "a b:")), max_unavailable=_some
) | st.builds(DisruptionBudget, max_unavailable_percent=_some)
_criteria = st.builds(
    AbortCriterion,
    failure=st.sampled_from(FailureType),
    percent=st.sampled_from((0, 20, 50)),
    min_count=st.integers(1, 3),
    min_ended=st.integers(1, 3),
    extent=st.sampled_from(Extent),
    action=st.sampled_from(AbortAction),
    acts_on=st.sampled_from(Extent),
).filter(
    lambda one: (
        not (one.action is AbortAction.ROLLBACK and one.failure is FailureType.REJECTED)
        and not (one.extent is Extent.ROLLOUT and one.acts_on is Extent.GROUP)
    )
)
_windows = st.none() | st.builds(
    WindowSpec,
    cron=st.sampled_from(("0 1 * * *", "30 2 * * 2#1")),
    duration_s=st.sampled_from((60, 90, 3_600)),
    zone=st.sampled_from(("UTC", "Europe/Paris")),
)

any_strategy = st.builds(
    Strategy,
    groups=_groups,
    membership=st.sampled_from(Membership),
    pace=st.builds(Pace, _few, _few),
    budgets=st.lists(_budgets, max_size=2).map(tuple),
    abort=st.lists(_criteria, max_size=2).map(tuple),
    deadlines=st.builds(Deadlines, execution_s=_some, install_s=_few),
    retries=st.builds(Retries, attempts=st.integers(0, 3), base_s=_some, penalty_s=_few),
    download_window=_windows,
    activate_window=_windows,
    ends_at=st.sampled_from((0, 1_800_000_000, 1 << 40)),
    priority=st.integers(-1, 1),
    override=st.sampled_from(("", 'it "leaks"', "on fire")),
)
