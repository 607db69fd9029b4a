from __future__ import annotations

import httpx
import pytest
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Sprat

WANTED = "site = lyon and memory >= 2GiB"


def test_a_filter_is_sent_as_it_was_typed(sprat: Sprat) -> None:
    for verb, *options in (("plan",), ("start", "--yes")):
        sprat("rollout", verb, "talk@1.0.0", "--alias", "a", "--filter", WANTED, *options)
        body = next(one for one in reversed(sprat.api.bodies) if "alias" in one)
        assert body["filter"] == WANTED


def test_a_controller_that_knows_no_filters_is_told_of_none(sprat: Sprat) -> None:
    sprat("rollout", "plan", "talk@1.0.0", "--alias", "a")
    assert "filter" not in sprat.api.bodies[-1]


@pytest.mark.parametrize("options", [[], ["--where", "site=lyon"]])
def test_a_list_of_devices_asks_the_controller(
    sprat: Sprat, api: OperatorApi, options: list[str]
) -> None:
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("filter"))
        return httpx.Response(200, json={"items": [], "next": None})

    api.answer = answer
    sprat("devices", "list", "--filter", WANTED, *options)
    assert asked == [WANTED]


@pytest.mark.parametrize("empty", ["", "  "])
@pytest.mark.parametrize(
    "verb",
    [
        ("plan", "talk@1.0.0"),
        ("start", "talk@1.0.0", "--yes"),
        ("recurring", "add", "talk", "--channel", "stable", "--every", "0 2 * * 2;UTC"),
    ],
)
def test_a_filter_that_a_script_left_empty_does_not_mean_everybody(
    sprat: Sprat, verb: tuple[str, ...], empty: str
) -> None:
    said = sprat("rollout", *verb, "--alias", "a", "--filter", empty)
    said.assert_one_sentence(64)
    assert "expected a filter in --filter, found nothing" in said.errors
    assert not sprat.api.bodies


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_override_without_a_reason_is_none(sprat: Sprat, empty: str) -> None:
    said = sprat("rollout", "start", "talk@1.0.0", "--alias", "a", "--yes", "--override", empty)
    said.assert_one_sentence(64)
    assert "expected why in --override, found nothing" in said.errors
    assert not sprat.api.bodies
