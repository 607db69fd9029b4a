from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.cli import strategy
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.rollout import strategy_said
from sprat_controller.rollout.strategy import (
    LADDER,
    AbortAction,
    AbortCriterion,
    FailureType,
    Gate,
    Group,
    Membership,
    Strategy,
    WindowSpec,
)

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("groups", "success", "soak", "gate", "per_minute", "budget", "abort")),
    **dict.fromkeys(("retries", "download_window", "activate_window", "membership")),
    **dict.fromkeys(("priority", "override", "strategy_file")),
    "ask": False,
}


def options(**said: Any) -> Strategy:
    read = strategy.read({**NOTHING, **said})
    assert read is not None
    return read


def test_nothing_said_leaves_it_to_the_controller() -> None:
    assert strategy.read(NOTHING) is None
    assert strategy.body(None) == {}


def test_the_ladder_is_the_ladder_and_can_be_said_by_its_slices() -> None:
    assert options(groups="ladder") == LADDER
    spelled = options(groups="1,1%,10%,50%,rest").groups
    assert [(one.devices, one.percent) for one in spelled] == [
        (one.devices, one.percent) for one in LADDER.groups
    ]


def test_slices_of_one_size_are_told_apart_by_their_numbers() -> None:
    read = options(groups="5,5,rest").groups
    assert [(one.name, one.devices) for one in read] == [("", 5), ("", 5), ("rest", 0)]


def test_each_option_is_its_word_of_the_strategy() -> None:
    read = options(
        groups="5,rest",
        success=95,
        soak="30m",
        gate=True,
        ask=True,
        per_minute=10,
        budget=["site=1", "rack=10%"],
        abort=["failed>20%:rollback", "all>=5%/3"],
        retries=2,
        download_window="0 1 * * *;4h;Europe/Paris",
        activate_window="0 3 * * 2;90m",
        membership=Membership.CONTINUOUS,
        priority=-5,
        override="the model tells secrets",
    )
    assert read.groups == (
        Group(
            name="5",
            devices=5,
            success_percent=95,
            soak_s=1800,
            gate=Gate(),
            waits_for_promotion=True,
        ),
        Group(name="rest", success_percent=95, soak_s=1800, gate=Gate(), waits_for_promotion=True),
    )
    assert read.pace.starts_per_minute == 10
    limits = [(one.label, one.max_unavailable, one.max_unavailable_percent) for one in read.budgets]
    assert limits == [("site", 1, 0), ("rack", 0, 10)]
    assert strategy.criterion("rejected>20%/3/40:cancel") == AbortCriterion(
        FailureType.REJECTED, percent=20, min_count=3, min_ended=40, action=AbortAction.CANCEL
    )
    assert [(one.failure, one.percent, one.min_count, one.action) for one in read.abort] == [
        (FailureType.FAILED, 20, 1, AbortAction.ROLLBACK),
        (FailureType.ALL, 5, 3, AbortAction.PAUSE),
    ]
    assert read.retries.attempts == 2
    assert read.download_window == WindowSpec("0 1 * * *", 4 * 3600, "Europe/Paris")
    assert read.activate_window == WindowSpec("0 3 * * 2", 5400, "UTC")
    assert read.membership is Membership.CONTINUOUS
    assert (read.priority, read.override) == (-5, "the model tells secrets")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"groups": ""}, "ending with rest, found ''"),
        ({"groups": "1,10%"}, "ending with rest"),
        ({"groups": "10%,1%,rest"}, "each percentage above the one before"),
        ({"groups": "0,rest"}, "a group of 0 devices"),
        ({"groups": "some,rest"}, "found 'some' in it"),
        ({"soak": "long"}, "expected a soak such as 90s, 30m, 2h or 7d, found 'long'"),
        ({"soak": "999999d"}, "strategy.groups"),
        ({"budget": ["site"]}, "expected a disruption budget such as site=1"),
        ({"budget": ["site=0"]}, "found neither"),
        ({"budget": ["site=101%"]}, "max_unavailable_percent"),
        ({"abort": ["failed"]}, "expected an abort criterion TYPE>PERCENT%"),
        ({"abort": ["crashed>1%"]}, "with a type all, failed, rejected, rolled-back, timed-out"),
        ({"abort": ["failed>1%:explode"]}, "an action cancel, pause, rollback"),
        ({"abort": ["failed>101%"]}, "percent"),
        ({"abort": ["rejected>1%:rollback"]}, "what was rejected runs nothing"),
        ({"download_window": "0 1 * * *"}, "expected a window 'CRON;TIME'"),
        ({"download_window": "0 1 * * *;soon"}, "expected a window's length"),
        ({"download_window": "0 1 * * *;1s"}, "duration_s"),
    ],
)
def test_what_is_said_wrong_is_one_sentence(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CliError) as refused:
        options(**said)
    assert sentence in refused.value.message
    assert refused.value.status is Exit.USAGE
    assert len(refused.value.message.splitlines()) == 1


def test_a_file_says_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "careful.yaml"
    path.write_text("groups:\n- devices: 1\n  soak_s: 60\n- {}\npriority: 3\n")
    read = options(strategy_file=path)
    assert read == Strategy(groups=(Group(devices=1, soak_s=60), Group()), priority=3)
    with pytest.raises(CliError, match="write --priority into the file"):
        options(strategy_file=path, priority=4)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("groups: 1\n", "strategy careful.yaml, line 1: groups: expected a list"),
        ("pace:\n  per_minut: 1\n", "line 2: there is no key 'per_minut'"),
        ("groups:\n- {}\n- {}\n", r"strategy.groups\[0\]"),
        ("- 1\n", "expected keys with values"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "careful.yaml"
    path.write_text(text)
    with pytest.raises(CliError, match=sentence):
        options(strategy_file=path)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="cannot be read"):
        options(strategy_file=tmp_path / "nothing.yaml")


@given(st.text(max_size=24))
def test_whatever_is_typed_is_read_or_refused(text: str) -> None:
    for read in (strategy.slices, strategy.criterion, strategy.budget, strategy.window):
        refused = None
        try:
            read(text)
        except CliError as error:
            refused = error
        assert refused is None or refused.status is Exit.USAGE
        assert refused is None or len(refused.message.splitlines()) == 1


def test_a_strategy_is_said_in_one_line() -> None:
    assert strategy.in_words(None) == "all at once"
    assert strategy.in_words(strategy_said.said(LADDER)).startswith("groups canary: 1 device,")
    assert strategy.in_words({"of_a_newer_controller": 1}) == '{"of_a_newer_controller":1}'
