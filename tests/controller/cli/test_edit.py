"""`sprat rollout edit`: what is said is changed, all else stays as it was found."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Said, Sprat
from sprat_controller.cli.strategy import changes, slices
from sprat_controller.rollout import frozen_strategy, strategy_said
from sprat_controller.rollout.strategy import (
    AbortCriterion,
    Gate,
    Pace,
    Retries,
    Strategy,
    WindowSpec,
)

Edit = Callable[..., Said]
NIGHT = WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Paris")
CURRENT = Strategy(
    groups=slices("1,rest"),
    pace=Pace(max_in_progress=7, starts_per_minute=1),
    abort=(AbortCriterion(percent=5),),
    retries=Retries(attempts=1, penalty_s=60),
    activate_window=NIGHT,
)


@pytest.fixture
def edit(sprat: Sprat, api: OperatorApi) -> Edit:
    api.lists["rollouts"].append(
        {"id": "r-1", "state": "READY", "revision": 4, "strategy": strategy_said.said(CURRENT)}
    )
    return functools.partial(sprat, "rollout", "edit", "r-1")


def sent(api: OperatorApi) -> Strategy:
    """Return what the rollout would be."""
    return strategy_said.edited(CURRENT, api.bodies[-1]["strategy"])


def changed(**words: Any) -> Strategy:
    return strategy_said.asked({**frozen_strategy.to_json(CURRENT), **words})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--retries", "5"), {"retries": {"attempts": 5, "penalty_s": 60}}),
        (("--per-minute", "0"), {"pace": {"max_in_progress": 7}}),
        (
            ("--abort", "failed>9%:cancel"),
            {"abort": [{"failure": "FAILED", "percent": 9, "action": "CANCEL"}]},
        ),
        (("--budget", "rack=2"), {"budgets": [{"label": "rack", "max_unavailable": 2}]}),
        (("--priority", "3"), {"priority": 3}),
        (("--membership", "continuous"), {"membership": "CONTINUOUS"}),
        (
            ("--download-window", "0 1 * * *;2h"),
            {"download_window": {"cron": "0 1 * * *", "duration_s": 7200}},
        ),
    ],
)
def test_options_change_their_own_words_of_what_was_found(
    edit: Edit, api: OperatorApi, options: tuple[str, ...], words: dict[str, Any]
) -> None:
    assert edit(*options).status == 0
    assert sent(api) == changed(**words)
    assert set(api.bodies[-1]["strategy"]) == set(words)
    assert api.bodies[-1]["expected_revision"] == 4


def test_groups_are_changed_as_a_whole(edit: Edit, api: OperatorApi) -> None:
    assert edit("--groups", "ladder", "--soak", "5m", "--gate").status == 0
    assert set(api.bodies[-1]["strategy"]) == {"groups"}
    groups = sent(api).groups
    assert [one.name for one in groups] == ["canary", "1 %", "10 %", "half", "rest"]
    assert {(one.soak_s, one.gate) for one in groups} == {(300, Gate())}
    said = edit("--soak", "5m")
    said.assert_one_sentence(64)
    assert "expected --groups beside --soak" in said.errors


def test_a_file_changes_all_of_it(edit: Edit, api: OperatorApi, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("priority: 9\n")
    assert edit("--strategy", str(path), "--name", "x", "--at", "2026-12-01T03:00:00Z").status == 0
    assert sent(api) == Strategy(priority=9)
    assert (api.bodies[-1]["name"], api.bodies[-1]["start_at"][:10]) == ("x", "2026-12-01")
    edit("--strategy", str(path), "--retries", "1").assert_one_sentence(64)


def test_what_was_looked_at_may_be_named_and_nothing_said_is_nothing_sent(
    edit: Edit, api: OperatorApi
) -> None:
    assert edit("--priority", "1", "--revision", "2").status == 0
    assert api.bodies[-1]["expected_revision"] == 2
    edit().assert_one_sentence(64)
    assert edit("--max-in-progress", "0").status == 0
    assert api.bodies[-1] == {"max_in_progress": 0}
    assert len(api.bodies) == 2


def test_a_strategy_that_comes_of_it_and_cannot_be_is_not_sent(
    edit: Edit, api: OperatorApi
) -> None:
    for options in (("--groups", "rest,1"), ("--retries", "99"), ("--abort", "some")):
        edit(*options).assert_one_sentence(64)
    assert api.calls == []


def test_a_strategy_of_a_newer_controller_is_not_edited(sprat: Sprat, api: OperatorApi) -> None:
    strategy = {"weather": "fine"}
    api.lists["rollouts"].append({"id": "r-1", "state": "READY", "strategy": strategy})
    said = sprat("rollout", "edit", "r-1", "--retries", "1")
    said.assert_one_sentence(1)
    assert "update sprat" in said.errors
    assert api.bodies == []


def test_what_is_said_is_what_is_different() -> None:
    nothing = dict.fromkeys(
        (
            *("groups", "success", "soak", "gate", "per_minute", "budget", "abort", "retries"),
            *("download_window", "activate_window", "membership", "priority", "override"),
            "strategy_file",
        )
    )
    assert changes({**nothing, "ask": False}) is None
    told = changes({**nothing, "ask": False, "priority": 0})
    assert told is not None
    assert told(CURRENT) == {"priority": 0}
