"""The canonical document of a strategy, its digest, and what a specification binds by it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from simulators import frozen
from sprat_controller.rollout import frozen_strategy, signed_strategy, timing
from sprat_controller.rollout.signed_strategy import NotSignedError
from sprat_controller.rollout.strategy import (
    ALL_AT_ONCE,
    LADDER,
    AbortCriterion,
    Deadlines,
    DisruptionBudget,
    Gate,
    Group,
    Membership,
    Pace,
    Retries,
    Strategy,
    WindowSpec,
)
from sprat_proto.approval import RolloutSpec
from sprat_proto.assignment import spelled_windows

NIGHT = WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Paris")
IN_THE_CLEAR = [
    ALL_AT_ONCE,
    Strategy(pace=Pace(max_in_progress=7)),
    Strategy(download_window=NIGHT, activate_window=NIGHT, ends_at=1 << 33),
]
BOUND = [
    LADDER,
    Strategy(groups=(Group(name="all"),)),
    Strategy(groups=(Group(gate=Gate()),)),
    Strategy(groups=(Group(waits_for_promotion=True), Group())),
    Strategy(membership=Membership.CONTINUOUS),
    Strategy(pace=Pace(starts_per_minute=1)),
    Strategy(budgets=(DisruptionBudget(max_unavailable=1),)),
    Strategy(abort=(AbortCriterion(),)),
    Strategy(deadlines=Deadlines(execution_s=60)),
    Strategy(retries=Retries()),
    Strategy(priority=1),
    Strategy(override="it leaks secrets"),
    Strategy(override="it leaks secrets", activate_window=NIGHT),
]


def spec_of(strategy: Strategy, **changes: Any) -> RolloutSpec:
    return msgspec.structs.replace(
        frozen.SPEC,
        max_in_progress=strategy.pace.max_in_progress,
        windows=spelled_windows(timing.windows_of(strategy)),
        strategy_sha256=signed_strategy.digest_of(strategy),
        **changes,
    )


@pytest.mark.parametrize("strategy", IN_THE_CLEAR)
def test_what_the_specification_says_in_the_clear_needs_no_digest(strategy: Strategy) -> None:
    assert signed_strategy.digest_of(strategy) is UNSET
    assert not signed_strategy.proceeding(strategy).is_bound


@pytest.mark.parametrize("strategy", BOUND)
def test_everything_else_is_bound_by_the_digest_of_the_whole(strategy: Strategy) -> None:
    document = signed_strategy.document(strategy)
    assert signed_strategy.digest_of(strategy) == hashlib.sha256(document).hexdigest()
    assert signed_strategy.proceeding(strategy).is_bound
    assert json.loads(document) == json.loads(json.dumps(frozen_strategy.to_json(strategy)))


def test_each_strategy_is_bound_by_its_own_specification_and_by_no_other() -> None:
    every = [*IN_THE_CLEAR, *BOUND]
    for mine in every:
        shown = signed_strategy.document(mine).decode()
        assert signed_strategy.read(spec_of(mine), shown) == mine
        for other in every:
            assert (signed_strategy.why_not(spec_of(other), mine) is None) is (other == mine)


@pytest.mark.parametrize(
    "changes",
    [{"max_in_progress": 8}, {"windows": UNSET}, {"strategy_sha256": "0" * 64}],
)
def test_what_devices_are_told_in_the_clear_is_the_strategys(changes: dict[str, Any]) -> None:
    strategy = Strategy(
        pace=Pace(max_in_progress=7), activate_window=NIGHT, abort=(AbortCriterion(),)
    )
    spec = msgspec.structs.replace(spec_of(strategy), **changes)
    assert signed_strategy.why_not(spec, strategy) is not None


@pytest.mark.parametrize("shown", ["", "{}", "[]", '{"groups":[]}', '{"other":1}', "\ud800"])
def test_a_document_that_is_no_strategy_is_refused(shown: str) -> None:
    with pytest.raises(NotSignedError):
        signed_strategy.read(spec_of(LADDER), shown)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (9.0, "9"),
        (2.5, "2.5"),
        (33.333, "33.333"),
        (0.1, "0.1"),
        (0.001, "0.001"),
        (1e-05, "0.00001"),
        (0.00000123, "0.00000123"),
        (1e-06, "0.000001"),
        (1e-07, "1e-7"),
        (1.5e-07, "1.5e-7"),
        (5e-324, "5e-324"),
        (99.99999999999999, "99.99999999999999"),
    ],
)
def test_numbers_are_spelled_as_rfc_8785_has_them(value: float, spelled: str) -> None:
    strategy = Strategy(groups=(Group(percent=value), Group()))
    assert f'"percent":{spelled},' in signed_strategy.document(strategy).decode()


@given(st.floats(0, 100))
def test_a_document_is_read_as_the_strategy_that_it_was_made_of(percent: float) -> None:
    strategy = Strategy(groups=(Group(percent=percent, name="é\n\u2028"), Group()))
    document = signed_strategy.document(strategy)
    assert signed_strategy.read(spec_of(strategy), document.decode()) == strategy
    # Whatever reads JSON reads the same number.
    assert json.loads(document)["groups"][0]["percent"] == percent
