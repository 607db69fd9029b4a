from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.any_strategy import any_strategy
from sprat_controller.errors import RequestError
from sprat_controller.rollout import strategy_said, strategy_words
from sprat_controller.rollout.strategy import (
    ALL_AT_ONCE,
    LADDER,
    DisruptionBudget,
    Gate,
    Group,
    Strategy,
    WindowSpec,
)
from sprat_proto import canonical

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=8), scalars)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"groups": []}, "strategy.groups: expected a list of length >= 1, found []"),
    ({"pase": {}}, "strategy: there is no key 'pase'"),
    ({"priority": "high"}, "strategy.priority: expected a whole number, found text"),
    ({"priority": 1001}, "strategy.priority: expected a whole number <= 1000, found 1001"),
    (
        {"groups": [{"devices": 1, "percent": 1}, {}]},
        "strategy.groups[0]: expected devices or percent, found both",
    ),
    (
        {"groups": [{"percent": float("nan")}, {}]},
        "strategy.groups[0].percent: expected a number >= 0.0, found nan",
    ),
    ({"groups": [{}, {}]}, "strategy.groups[0]: expected devices, percent or filter"),
    ({"groups": [{"devices": 1}]}, "strategy.groups[0]: expected the last group to take"),
    ({"groups": [{"percent": 50}]}, "else some devices would never get a turn"),
    (
        {"groups": [{"name": "a", "devices": 1}, {"name": "a"}]},
        "expected each name once, found 'a' twice",
    ),
    (
        {"groups": [{"percent": 60}, {"percent": 60}, {}]},
        "expected at most 100 percent in all, found 120",
    ),
    (
        {"groups": [{"devices": 1, "filter": "site ="}, {}]},
        "strategy.groups[0].filter: filter, character 7: expected",
    ),
    ({"budgets": [{}]}, "strategy.budgets[0]: expected max_unavailable or"),
    (
        {"budgets": [{"max_unavailable": 1, "max_unavailable_percent": 1}]},
        "max_unavailable_percent, found both",
    ),
    (
        {"abort": [{"failure": "REJECTED", "action": "ROLLBACK"}]},
        "strategy.abort[0]: expected PAUSE or CANCEL for REJECTED",
    ),
    ({"abort": [{"extent": "ROLLOUT", "acts_on": "GROUP"}]}, "no group is to blame"),
    (
        {"retries": {"base_s": 60, "ceiling_s": 30}},
        "strategy.retries.ceiling_s: expected at least base_s (60), found 30",
    ),
    (
        {"activate_window": {"cron": "0 1 * * *"}},
        "strategy.activate_window: expected the key 'duration_s', found none",
    ),
    (
        {"activate_window": {"cron": "0 25 * * *", "duration_s": 60}},
        "strategy.activate_window: ",
    ),
    (
        {"download_window": {"cron": "0 1 * * *", "duration_s": 60, "zone": "Mars/Olympus"}},
        "strategy.download_window: ",
    ),
]


@pytest.mark.parametrize("strategy", [ALL_AT_ONCE, LADDER])
def test_a_strategy_reads_back_as_it_was_said(strategy: Strategy) -> None:
    assert strategy_said.asked(strategy_said.said(strategy)) == strategy


@pytest.mark.parametrize(("said", "sentence"), WRONG)
def test_what_cannot_be_is_refused_in_one_sentence(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError) as refused:
        strategy_said.asked(said)
    assert sentence in refused.value.message
    assert refused.value.code == "invalid_rollout"
    assert len(refused.value.message.splitlines()) == 1


@given(
    st.dictionaries(
        st.sampled_from(("groups", "pace", "abort", "retries", "x")), values, max_size=3
    )
)
def test_whatever_is_said_is_a_strategy_or_refused(said: dict[str, Any]) -> None:
    refused = None
    try:
        strategy_said.asked(said)
    except RequestError as error:
        refused = error
    assert refused is None or len(refused.message.splitlines()) == 1


@given(any_strategy)
def test_each_strategy_is_said_in_one_way_that_reads_back(strategy: Strategy) -> None:
    said = strategy_said.said(strategy)
    through_json = json.loads(json.dumps(said))
    again = strategy_said.asked(through_json)
    assert again == strategy
    assert canonical.encode(strategy_said.said(again)) == canonical.encode(said)


def test_what_is_by_default_is_not_said() -> None:
    assert strategy_said.said(Strategy()) == {}
    spelled = strategy_said.asked(
        {
            "groups": [{"devices": 0, "percent": 0.0, "name": ""}],
            "pace": {"max_in_progress": 0},
            "budgets": [{"label": "a site"[2:], "max_unavailable": 1}],
            "retries": {"attempts": 0},
        }
    )
    assert strategy_said.said(spelled) == {"budgets": [{"max_unavailable": 1}]}
    assert strategy_said.said(strategy_said.asked({"retries": {}})) == {"retries": {}}
    gated = strategy_said.asked({"groups": [{"gate": {}}]})
    assert strategy_said.said(gated) == {"groups": [{"gate": {}}]}


@given(any_strategy, any_strategy, st.sampled_from(Strategy.__struct_fields__))
def test_strategies_that_differ_differ_in_words(one: Strategy, two: Strategy, name: str) -> None:
    other = msgspec.structs.replace(one, **{name: getattr(two, name)})
    words = [strategy_words.in_words(each) for each in (one, other)]
    assert all(each.isprintable() for each in words)
    assert (words[0] == words[1]) == (one == other)


def test_a_strategy_is_said_as_people_say_it() -> None:
    assert strategy_words.in_words(ALL_AT_ONCE) == "all at once"
    assert strategy_words.in_words(LADDER) == (
        "groups canary: 1 device, 1 %: 1 %, 10 %: 9 %, half: 40 %, rest: the rest;"
        " group 1: 90 % must succeed; group 2: 95 % must succeed; group 3: 95 % must succeed;"
        " group 4: 95 % must succeed;"
        " PAUSE from 10 % and 2 ROLLED_BACK in a group of which 10 ended;"
        " PAUSE from 20 % and 3 FAILED in a group of which 10 ended;"
        " PAUSE from 20 % and 3 TIMED_OUT in a group of which 10 ended;"
        " PAUSE from 20 % and 3 REJECTED in a group of which 10 ended; retries: attempts 3"
    )
    careful = Strategy(
        groups=(Group(devices=2, soak_s=5400, gate=Gate()), Group(gate=Gate(max_crashes=None))),
        budgets=(DisruptionBudget(max_unavailable_percent=10),),
        activate_window=WindowSpec("0 3 * * 2", 7200, "Europe/Paris"),
        override="it leaks",
    )
    assert strategy_words.in_words(careful) == (
        "groups 2 devices, the rest; group 0: soaks 90 min, gate on metrics; group 1: gate on"
        " metrics (max crashes any); at most 10 % down of each site; activates at"
        ' "0 3 * * 2" Europe/Paris for 2 h; without windows, budgets and pace: "it leaks"'
    )
