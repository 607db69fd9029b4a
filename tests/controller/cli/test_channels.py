from __future__ import annotations

from simulators.operator_api import CREATED, OperatorApi
from simulators.sprat_command import Sprat


def test_a_channel_shows_what_it_stands_for_and_what_else_is_in_it(
    sprat: Sprat, api: OperatorApi
) -> None:
    api.models["talk"].append({"release": "1.1.0", "counter": 5, "variants": []})
    sprat("channels", "put", "talk@1.1.0", "stable")
    said = sprat("channels", "put", "talk@1.0.0", "stable")
    common = [CREATED, "user:root", "-"]
    assert said.lines == [
        ["stable", "yes", "1.1.0", "5", *common],
        ["stable", "", "1.0.0", "4", *common],
    ]
    assert sprat("channels", "list", "talk").lines == said.lines
    assert sprat("channels", "remove", "talk@1.1.0", "stable", "-o", "json").json == {
        "release": "talk@1.1.0",
        "channel": "stable",
        "removed": True,
    }
    assert sprat("channels", "list", "talk").lines == [["stable", "yes", "1.0.0", "4", *common]]
