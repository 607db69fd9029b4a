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
