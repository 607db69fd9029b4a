from __future__ import annotations

from typing import Any

import pytest
from simulators.operator_api import CREATED, OperatorApi
from simulators.sprat_command import Sprat

ONE = "0190c5ad-0000-7000-8000-000000000001"
OTHER = "0190c5ad-0001-7000-8000-000000000002"
EARLIER = "0190c5ac-ffff-7000-8000-000000000003"


@pytest.fixture
def known(api: OperatorApi) -> list[dict[str, Any]]:
    """Return three rollouts, of which two begin with the same eight letters."""
    what = {"name": "n", "model": "talk", "release": "1.0.0", "state": "RUNNING"}
    rollouts = api.lists["rollouts"]
    rollouts.extend({"id": one, "created_at": CREATED, **what} for one in (ONE, OTHER, EARLIER))
    api.moments = [("FINISHED", [])]
    return rollouts


@pytest.mark.parametrize(
    "verb",
    [
        *(("show",), ("watch",), ("edit", "--name", "x"), ("approval",), ("deny",), ("pause",)),
        *(("resume",), ("promote", "--group", "0"), ("retry-failed",), ("roll-back", "--yes")),
        *(("stop", "--yes"), ("start", "--yes")),
    ],
)
def test_each_verb_takes_as_much_of_an_id_as_tells_it_apart(
    sprat: Sprat, api: OperatorApi, known: list[dict[str, Any]], verb: tuple[str, ...]
) -> None:
    name, *options = verb
    for typed in (EARLIER, EARLIER[:8], EARLIER[:20]):
        known[2]["state"] = "RUNNING"
        said = sprat("rollout", name, typed, *options)
        assert said.status == 0, said
        assert api.calls[-1][1].startswith(f"/api/v1/rollouts/{EARLIER}")


@pytest.mark.parametrize(
    ("typed", "status", "sentence"),
    [
        ("0190c5ad", 64, f"found 2 that begin with 0190c5ad ({ONE}, {OTHER}): say more of it"),
        ("0190c5ae", 1, "there is no rollout whose id begins with 0190c5ae"),
        ("0190c5", 1, "there is no"),
    ],
)
@pytest.mark.usefixtures("known")
def test_what_tells_none_apart_is_one_sentence_and_does_nothing(
    sprat: Sprat, api: OperatorApi, typed: str, status: int, sentence: str
) -> None:
    said = sprat("rollout", "stop", typed, "--yes")
    said.assert_one_sentence(status)
    assert sentence in said.errors
    assert {one["state"] for one in api.lists["rollouts"]} == {"RUNNING"}


def test_other_things_are_told_by_their_beginning_too(sprat: Sprat, api: OperatorApi) -> None:
    api.lists["tokens"].append({"id": ONE, "created_at": CREATED})
    assert sprat("tokens", "revoke", ONE[:8]).status == 0
    assert ("DELETE", f"/api/v1/tokens/{ONE}") in api.calls
    what = {"model": "talk", "release": "1.0.0", "alias": "assistant"}
    api.plans[OTHER] = {**what, "labels": {}, "devices": []}
    assert sprat("rollout", "apply", OTHER[:13], "--yes").status == 0
    assert ("POST", f"/api/v1/rollouts/plans/{OTHER}/apply") in api.calls
