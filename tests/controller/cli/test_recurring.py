from __future__ import annotations

import pytest
from simulators.operator_api import CREATED, OperatorApi
from simulators.sprat_command import Sprat
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.recurring import rule

ADD = ("rollout", "recurring", "add", "talk", "--channel", "stable", "--alias", "a")


def test_all_that_is_said_is_sent(sprat: Sprat, api: OperatorApi) -> None:
    said = sprat(
        *(*ADD, "--every", "0 2 * * 2#1;Europe/Berlin", "--where", "site=lyon"),
        *("--filter", "cores >= 4", "--groups", "1,rest", "--name", "monthly"),
    )
    assert said.status == 0, said
    sent = api.bodies[-1]
    assert (sent["cron"], sent["zone"]) == ("0 2 * * 2#1", "Europe/Berlin")
    assert (sent["model"], sent["channel"], sent["alias"]) == ("talk", "stable", "a")
    assert (sent["labels"], sent["filter"]) == ({"site": "lyon"}, "cores >= 4")
    assert sent["name"] == "monthly"
    assert [one.get("devices", 0) for one in sent["strategy"]["groups"]] == [1, 0]


def test_a_list_says_when_each_is_due_and_what_came_of_it_last(
    sprat: Sprat, api: OperatorApi
) -> None:
    common = {"name": "m", "model": "talk", "channel": "stable", "alias": "a", "cron": "0 2 * * *"}
    reason = {"code": "STILL_RUNNING", "message": "the last rollout is RUNNING"}
    skipped = {"due_at": CREATED, "decided_at": CREATED, "release": "1.0.0", "reason": reason}
    api.lists["recurring-rollouts"] = [
        {"id": "x-1", **common, "zone": "UTC", "due_at": CREATED, "last": {"rollout_id": "r-1"}},
        {"id": "x-2", **common, "zone": "UTC", "paused_at": CREATED, "last": skipped},
        {"id": "x-3", **common, "zone": "UTC", "due_at": CREATED, "last": None},
    ]
    rows = sprat("rollout", "recurring", "list").lines
    assert [row[-2:] for row in rows] == [
        [CREATED, "r-1"],
        ["paused", "STILL_RUNNING"],
        [CREATED, "-"],
    ]
    assert rows[0][5] == "0 2 * * * UTC"
    api.lists["recurring-rollouts"][1]["occurrences"] = [skipped]
    assert sprat("rollout", "recurring", "show", "x-2").lines == [
        [CREATED, CREATED, "1.0.0", "-", "the last rollout is RUNNING"]
    ]


def test_a_rule_is_in_utc_unless_it_says_where() -> None:
    assert rule("0 2 * * *") == ("0 2 * * *", "UTC")
    assert rule(" 0 2 * * * ; Europe/Berlin ") == ("0 2 * * *", "Europe/Berlin")
    for text in ("", ";UTC", "0 2 * * *;", "0 2 * * *;4h;UTC"):
        with pytest.raises(CliError, match="expected CRON or CRON;ZONE"):
            rule(text)


def test_an_edit_sends_what_is_said_and_what_was_found(sprat: Sprat, api: OperatorApi) -> None:
    strategy = {"pace": {"max_in_progress": 7}, "priority": 1}
    api.lists["recurring-rollouts"] = [{"id": "x-1", "revision": 4, "strategy": strategy}]
    edit = ("rollout", "recurring", "edit", "x-1")
    said = sprat(
        *edit, "--every", "0 3 * * *;Europe/Berlin", "--where", "site=lyon", "--not-pinned"
    )
    assert said.status == 0, said
    assert api.bodies[-1] == {
        "cron": "0 3 * * *",
        "zone": "Europe/Berlin",
        "labels": {"site": "lyon"},
        "pinned": False,
    }
    assert sprat(*edit, "--per-minute", "5", "--aim", "smallest").status == 0
    sent = api.bodies[-1]
    assert sent["strategy"] == {"pace": {"max_in_progress": 7, "starts_per_minute": 5}}
    assert (sent["policy"]["aim"], sent["expected_revision"]) == ("smallest", 4)
    assert sprat(*edit, "--name", "n", "--revision", "9").status == 0
    assert api.bodies[-1] == {"name": "n", "expected_revision": 9}
    nothing = sprat(*edit)
    nothing.assert_one_sentence(64)
    assert "such as --every, found nothing" in nothing.errors


def test_verbs_name_the_revision_that_was_looked_at(sprat: Sprat, api: OperatorApi) -> None:
    api.lists["recurring-rollouts"] = [{"id": "x-1", "revision": 4}]
    for verb in ("pause", "resume"):
        assert sprat("rollout", "recurring", verb, "x-1", "--revision", "4").status == 0
        assert api.bodies[-1] == {"expected_revision": 4}
    assert sprat("rollout", "recurring", "remove", "x-1", "--revision", "4").status == 0
