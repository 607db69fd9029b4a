from __future__ import annotations

import re

import httpx
import pytest
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Sprat
from sprat_controller.cli.exits import Exit
from sprat_controller.rollout.why import reasons
from sprat_proto.states import ReasonCode

HELD: dict[str, str | None] = {
    "alias": "assistant",
    "code": "WAITING_GROUP",
    "message": "its group 1 (rest) waits for group 0 (canary)",
    "then": "that group is judged",
    "at": "2026-11-26T13:00:00Z",
    "do": "nothing",
    "rollout_id": "r-1",
}
RUNS: dict[str, str | None] = {
    **HELD,
    "alias": "vision",
    "code": "IN_SYNC",
    "then": "nothing",
    "at": None,
}


def says(api: OperatorApi, *items: dict[str, str | None]) -> None:
    api.answer = lambda _: httpx.Response(200, json={"items": items, "next": None})


def test_each_alias_has_its_reason_what_is_next_and_what_to_do(
    sprat: Sprat, api: OperatorApi
) -> None:
    says(api, HELD, RUNS)
    lines = sprat("why", "gw-1").lines
    assert lines[0] == [
        *("assistant", "WAITING_GROUP", "its group 1 (rest) waits for group 0 (canary)"),
        *("that group is judged", "2026-11-26T13:00:00Z", "nothing"),
    ]
    assert [line[1] for line in lines] == ["WAITING_GROUP", "IN_SYNC"]
    assert lines[1][4] == "-"


def test_one_alias_may_be_asked_for(sprat: Sprat, api: OperatorApi) -> None:
    says(api, HELD, RUNS)
    said = sprat("why", "gw-1", "--alias", "vision", "-o", "json")
    assert said.json == {"items": [RUNS]}
    wrong = sprat("why", "gw-1", "--alias", "ears")
    assert wrong.status == 64
    assert "an alias that gw-1 has (assistant, vision), found 'ears'" in wrong.errors


def test_what_is_true_of_all_aliases_is_shown_whichever_is_asked_for(
    sprat: Sprat, api: OperatorApi
) -> None:
    says(api, {**RUNS, "alias": "", "code": "NOT_TARGETED"})
    assert sprat("why", "gw-1", "--alias", "vision").lines[0][1] == "NOT_TARGETED"


@pytest.mark.parametrize("code", ReasonCode)
def test_what_a_person_is_told_to_type_is_a_verb(sprat: Sprat, code: ReasonCode) -> None:
    told = reasons.advice(code, device="gw-1", rollout_id="r-1")
    assert told
    for command in re.findall(r"`sprat ([^`]+)`", told):
        words = command.split()
        asks = sprat(*words[:2], "--help").output
        said = sprat(*words, *(["--yes"] if "--yes" in asks else []))
        assert said.status != Exit.USAGE, said.errors
