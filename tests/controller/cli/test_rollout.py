from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from simulators.operator_api import OperatorApi
from simulators.sprat_command import NOW, Said, Sprat

NO_NUMBERS = ["-"] * 8
START = ("rollout", "start", "talk@1.0.0", "--alias", "assistant", "--yes")


def execution(device: str, state: str, **fields: Any) -> dict[str, Any]:
    return {"device_id": device, "state": state, "step": None, "variant": "q4_0", **fields}


def running(api: OperatorApi, *moments: tuple[str, list[dict[str, Any]]]) -> None:
    api.lists["rollouts"].append(
        {"id": "r-1", "state": "RUNNING", "model": "talk", "release": "1.0.0"}
    )
    api.moments = list(moments)


def watched(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.output.splitlines()]


def test_a_plan_says_per_device_what_it_gets_and_why_not_the_others(sprat: Sprat) -> None:
    said = sprat("rollout", "plan", "talk@1.0.0", "--alias", "a", "--device", "cam-1")
    assert said.lines == [
        [
            *("cam-1 (simulated)", "INSTALL", "q4_0", "q8_0", "INSUFFICIENT_MEMORY"),
            *("needs 121 MiB of memory, the budget is 115 MiB", *NO_NUMBERS),
        ],
        ["cam-1 (simulated)", "INSTALL", "q4_0", "q4_0", "-", "fits", *NO_NUMBERS],
    ]
    table = sprat("rollout", "plan", "talk@1.0.0", "--alias", "a", "-o", "table").output
    assert "cam-1 (simulated)" in table
    assert "x q8_0" in table
    assert "* q4_0" in table
    assert "the budget is 115 MiB" in " ".join(table.split())
    as_json = sprat("rollout", "plan", "talk@1.0.0", "--alias", "a", "-o", "json").json
    assert [device["device_id"] for device in as_json["devices"]] == ["gw-1", "cam-1"]


def test_a_plan_shows_what_each_verdict_rests_on(sprat: Sprat, api: OperatorApi) -> None:
    verdict: dict[str, Any] = {
        "variant": "q4_0",
        "fits": True,
        "code": None,
        "message": "fits",
        "need": {"memory": 700 << 20},
        "rates": {"basis": "predicted", "decode_tps": 12.345, "prefill_tps": 80.0},
        "ttft_ms": 6500,
        "loss_percent": 2.1,
    }
    entry = {"device_id": "gw-1", "action": "INSTALL", "variant": "q4_0", "verdicts": [verdict]}
    api.answer = lambda _: httpx.Response(200, json={"devices": [entry]})
    plan = ("rollout", "plan", "talk@1.0.0", "--alias", "a")
    assert sprat(*plan).lines[0][-9:] == [
        *("fits", str(700 << 20), "12.345", "predicted", "6500", "2.1", "-", "-", "-")
    ]
    shown = " ".join(sprat(*plan, "-o", "table").output.split())
    assert (
        "* q4_0 fits [700.0 MiB, 12.3 tokens/s predicted, first token after 6500 ms, loses 2.10 %]"
    ) in shown


def test_a_plan_says_what_is_fetched_and_how_long_that_takes(
    sprat: Sprat, api: OperatorApi
) -> None:
    verdicts = [{"variant": "q8_0", "message": "too large"}, {"variant": "q4_0", "message": "fits"}]
    entry: dict[str, Any] = {"device_id": "gw-1", "action": "INSTALL", "variant": "q4_0"}
    entry |= {"verdicts": verdicts, "fetch_bytes": 5 << 20, "expected_s": None}
    api.answer = lambda _: httpx.Response(200, json={"devices": [entry]})
    plan = ("rollout", "plan", "talk@1.0.0", "--alias", "a")
    assert [line[-3:] for line in sprat(*plan).lines] == [["-"] * 3, [str(5 << 20), "-", "-"]]
    shown = " ".join(sprat(*plan, "-o", "table").output.split())
    assert "fetches 5.0 MiB in a time that is not known" in shown
    entry |= {"expected_s": 90, "expected_end_s": 400}
    shown = " ".join(sprat(*plan, "-o", "table").output.split())
    assert "fetches 5.0 MiB in 90 s, done 400 s after the start" in shown


def test_a_plan_sends_the_bandwidth_that_it_is_told(sprat: Sprat) -> None:
    sprat("rollout", "plan", "talk@1.0.0", "--alias", "a", "--bandwidth", "2MiB")
    assert sprat.api.bodies[-1]["bandwidth"] == 2 << 20


def test_a_plan_sends_the_target_as_it_was_typed(sprat: Sprat) -> None:
    sprat(
        *("rollout", "plan", "talk@1.0.0", "--alias", "a", "--context", "512"),
        *("--where", "site=lyon", "--where", "ring=canary", "--device", "gw-1"),
    )
    assert sprat.api.bodies[-1] == {
        "model": "talk",
        "release": "1.0.0",
        "alias": "a",
        "labels": {"site": "lyon", "ring": "canary"},
        "devices": ["gw-1"],
        "context": 512,
    }


def test_terms_are_sent_if_they_were_said(sprat: Sprat) -> None:
    for verb, *options in (("plan",), ("start", "--yes")):
        sprat(
            *("rollout", verb, "talk@1.0.0", "--alias", "a", *options),
            *("--slots", "4", "--kv-type", "q8_0", "--pinned"),
        )
        body = next(one for one in reversed(sprat.api.bodies) if "alias" in one)
        assert (body["slots"], body["kv_type"], body["pinned"]) == (4, "q8_0", True)
    said = sprat("rollout", "plan", "talk@1.0.0", "--alias", "a", "--kv-type", "q2")
    assert said.status == 64
    assert "expected a KV type f16 or q8_0, found 'q2'" in said.errors
    assert sprat("rollout", "plan", "talk@1.0.0", "--alias", "a", "--slots", "65").status == 64


def test_a_device_without_a_profile_is_shown_with_its_reason(
    sprat: Sprat, api: OperatorApi
) -> None:
    entry: dict[str, Any] = {
        "device_id": "gw-1",
        "simulated": False,
        "action": "REJECTED",
        "variant": None,
        "reason": {"code": "NO_PROFILE", "message": "has not told its hardware yet"},
        "verdicts": [],
    }
    api.answer = lambda _: httpx.Response(200, json={"devices": [entry]})
    said = sprat("rollout", "plan", "talk@1.0.0", "--alias", "a")
    assert said.lines == [
        ["gw-1", "REJECTED", "-", "-", "NO_PROFILE", "has not told its hardware yet", *NO_NUMBERS]
    ]
    table = sprat("rollout", "plan", "talk@1.0.0", "--alias", "a", "-o", "table").output
    assert "has not told its hardware yet" in " ".join(table.split())


def test_starting_creates_and_starts(sprat: Sprat, api: OperatorApi) -> None:
    said = sprat(
        *START, "--max-in-progress", "2", "--timeout", "60", "--name", "first", "-o", "json"
    )
    assert said.json["id"] == "r-1"
    assert said.json["state"] == "RUNNING"
    assert api.bodies[-1]["max_in_progress"] == 2
    assert api.bodies[-1]["execution_timeout_s"] == 60
    assert api.bodies[-1]["name"] == "first"
    assert [path for method, path in api.calls if method == "POST"] == [
        "/api/v1/rollouts",
        "/api/v1/rollouts/r-1/start",
    ]


def test_what_was_created_is_started_by_its_id(sprat: Sprat, api: OperatorApi) -> None:
    api.lists["rollouts"].append({"id": "r-1", "state": "SCHEDULED"})
    said = sprat("rollout", "start", "r-1", "--yes", "--revision", "3", "-o", "json")
    assert (said.json["id"], said.json["state"]) == ("r-1", "RUNNING")
    assert [path for method, path in api.calls if method == "POST"] == [
        "/api/v1/rollouts/r-1/start"
    ]
    assert api.bodies == [{"expected_revision": 3}]


@pytest.mark.parametrize(
    "option",
    [
        ("--alias", "a"),
        ("--device", "gw-1"),
        ("--at", "2026-12-01 03:00"),
        ("--context", "64"),
        ("--slots", "1"),
        ("--pinned",),
        ("--kv-type", "q8_0"),
        ("--name", "x"),
        ("--groups", "ladder"),
        ("--aim", "smallest"),
    ],
)
def test_an_id_takes_nothing_of_what_creates_a_rollout(
    sprat: Sprat, api: OperatorApi, option: tuple[str, ...]
) -> None:
    api.lists["rollouts"].append({"id": "r-1", "state": "READY"})
    said = sprat("rollout", "start", "r-1", *option, "--yes")
    said.assert_one_sentence(64)
    assert "or the ID of one alone to start it, found 'r-1' with" in said.errors
    assert api.calls == []


def test_neither_an_id_nor_a_release_says_what_is_missing(sprat: Sprat) -> None:
    said = sprat("rollout", "start", "talk", "--yes")
    said.assert_one_sentence(1)
    assert "to create one, say MODEL@RELEASE" in said.errors
    said = sprat("rollout", "start", "talk@1.0.0", "--yes")
    said.assert_one_sentence(64)
    assert "expected --alias NAME beside talk@1.0.0, found none" in said.errors
    sprat(*START, "--revision", "1").assert_one_sentence(64)
    said = sprat("rollout", "start", "r-1")
    said.assert_one_sentence(64)
    assert "Start the rollout r-1 now?" in said.errors


def test_a_rollout_with_a_time_is_left_to_the_schedule(sprat: Sprat, api: OperatorApi) -> None:
    said = sprat(*START, "--at", "2026-12-01T03:00:00Z", "-o", "json")
    assert said.json["state"] == "SCHEDULED"
    assert datetime.fromisoformat(api.bodies[-1]["start_at"]) == datetime(
        2026, 12, 1, 3, tzinfo=UTC
    )
    assert ("POST", "/api/v1/rollouts/r-1/start") not in api.calls


def test_a_time_without_a_zone_is_local(sprat: Sprat, api: OperatorApi) -> None:
    sprat(*START, "--at", "2026-12-01 03:00")
    sent = datetime.fromisoformat(api.bodies[-1]["start_at"])
    assert sent.tzinfo is not None
    assert sent.replace(tzinfo=None) == datetime(2026, 12, 1, 3)  # noqa: DTZ001 - local on purpose


def test_a_rollout_that_was_created_but_did_not_start_is_named(
    sprat: Sprat, api: OperatorApi
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/start"):
            error = {"code": "wrong_state", "message": "it cannot start"}
            return httpx.Response(409, json={"error": error})
        return httpx.Response(201, json={"id": "r-9", "state": "READY"})

    api.answer = answer
    said = sprat(*START)
    said.assert_one_sentence(5)
    assert "r-9 was created but did not start" in said.errors


def test_without_a_person_starting_needs_yes_and_says_what_would_happen(
    sprat: Sprat, api: OperatorApi
) -> None:
    said = sprat("rollout", "start", "talk@1.0.0", "--alias", "a")
    said.assert_one_sentence(64)
    assert "to 2 devices (2 install)" in said.errors
    assert "--yes" in said.errors
    assert not api.lists["rollouts"]


def test_watching_tells_each_change_once_and_ends_with_0_if_all_succeeded(
    sprat: Sprat, api: OperatorApi
) -> None:
    under_way = execution("gw-1", "IN_PROGRESS", step="DOWNLOADING")
    running(
        api,
        ("RUNNING", [execution("gw-1", "QUEUED")]),
        ("RUNNING", [under_way]),
        ("RUNNING", [under_way]),
        ("FINISHED", [execution("gw-1", "SUCCEEDED")]),
    )
    said = sprat("rollout", "watch", "r-1")
    assert said.status == 0
    lines = watched(said)
    assert [line["state"] for line in lines if "device_id" not in line] == ["RUNNING", "FINISHED"]
    states = [(line["state"], line["step"]) for line in lines if "device_id" in line]
    assert states == [("QUEUED", None), ("IN_PROGRESS", "DOWNLOADING"), ("SUCCEEDED", None)]


@pytest.mark.parametrize(
    ("state", "executions"),
    [
        ("FINISHED", [execution("gw-1", "SUCCEEDED"), execution("gw-2", "FAILED")]),
        ("FINISHED", [execution("gw-1", "ROLLED_BACK")]),
        ("FINISHED", [execution("gw-1", "REJECTED")]),
        ("STOPPED", [execution("gw-1", "SUCCEEDED")]),
        ("STOPPED", [execution("gw-1", "CANCELED")]),
        ("ROLLED_BACK", []),
    ],
)
def test_watching_ends_with_3_if_some_did_not_succeed(
    sprat: Sprat, api: OperatorApi, state: str, executions: list[dict[str, Any]]
) -> None:
    running(api, ("RUNNING", executions), (state, executions))
    said = sprat("rollout", "watch", "r-1")
    assert said.status == 3
    last = said.errors.splitlines()[-1]
    assert last.startswith(f"sprat: the rollout r-1 is {state}")


def test_watching_says_once_that_a_rollout_waits_for_a_person(
    sprat: Sprat, api: OperatorApi
) -> None:
    waiting = [execution("gw-1", "QUEUED")]
    done = [execution("gw-1", "SUCCEEDED")]
    states = ("RUNNING", "PAUSED", "PAUSED", "RUNNING", "PAUSED")
    running(api, *((state, waiting) for state in states), ("FINISHED", done))
    said = sprat("rollout", "watch", "r-1")
    assert said.status == 0
    told = "the rollout r-1 is paused and waits for a person: `sprat rollout show r-1` says how"
    assert said.errors.count(told) == 2


def test_watching_gives_up_with_124_and_the_rollout_goes_on(sprat: Sprat, api: OperatorApi) -> None:
    running(api, ("RUNNING", [execution("gw-1", "IN_PROGRESS")]))
    said = sprat("rollout", "watch", "r-1", "--timeout", "5")
    assert said.status == 124
    assert "still RUNNING after 5 s" in said.errors
    assert sprat.now == NOW + timedelta(seconds=5)


def test_watching_outlives_a_restart_of_the_controller(sprat: Sprat, api: OperatorApi) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    running(api, ("RUNNING", []), ("FINISHED", [execution("gw-1", "SUCCEEDED")]))

    def set_answer(answer: Any) -> None:
        api.answer = answer

    sprat.on_sleep = [
        lambda: set_answer(refuse),
        *[lambda: None] * 20,
        lambda: set_answer(None),
    ]
    said = sprat("rollout", "watch", "r-1")
    assert said.status == 0
    assert said.errors.count("waiting for it") == 1


def test_watching_does_not_wait_for_ever_for_a_controller(sprat: Sprat, api: OperatorApi) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    api.answer = refuse
    said = sprat("rollout", "watch", "r-1")
    assert said.status == 1
    assert timedelta(minutes=2) < sprat.now - NOW < timedelta(minutes=3)


def test_starting_can_watch(sprat: Sprat, api: OperatorApi) -> None:
    api.moments = [("FINISHED", [execution("gw-1", "SUCCEEDED")])]
    said = sprat(*START, "--watch")
    assert said.status == 0
    assert "rollout r-1" in said.errors
    assert watched(said)[-1]["state"] == "SUCCEEDED"


def test_a_rollout_is_shown_with_its_executions(sprat: Sprat, api: OperatorApi) -> None:
    reason = {"code": "PROBE_FAILED", "message": "expected hello, found nothing"}
    failed = execution("cam-1", "ROLLED_BACK", simulated=True, reason=reason)
    running(api, ("FINISHED", [execution("gw-1", "SUCCEEDED"), failed]))
    shown = sprat("rollout", "show", "r-1", "-o", "json").json
    assert [one["device_id"] for one in shown["executions"]] == ["gw-1", "cam-1"]
    lines = sprat("rollout", "show", "r-1").lines
    assert lines[-1] == [
        *("cam-1 (simulated)", "ROLLED_BACK", "-", "q4_0"),
        "PROBE_FAILED: expected hello, found nothing",
    ]
    assert "cam-1 (simulated)" in sprat("rollout", "show", "r-1", "-o", "table").output


def test_rollouts_are_listed_held_and_ended(sprat: Sprat, api: OperatorApi) -> None:
    sprat(*START)
    assert sprat("rollout", "list").lines[0][0] == "r-1"
    for verb, state in (("pause", "PAUSED"), ("resume", "RUNNING")):
        assert sprat("rollout", verb, "r-1", "-o", "json").json["state"] == state
    assert sprat("rollout", "stop", "r-1", "--yes", "-o", "json").json["state"] == "STOPPING"
    api.lists["rollouts"][0]["state"] = "FINISHED"
    said = sprat("rollout", "pause", "r-1")
    said.assert_one_sentence(5)


@pytest.mark.parametrize(
    ("kept", "line"),
    [
        (
            {"since": {"0": {"succeeded": 1}}, "gate": "FAIL", "group": 0, "at": "-"},
            "the gate of group 0 failed",
        ),
        ({"stopped_by": "user:ann"}, "stopped by user:ann"),
        (
            {"criterion": {"percent": 5, "new": 1}, "group": 0, "failures": 1, "judged": 2},
            '{"criterion":{"new":1,"percent":5},"failures":1,"group":0,"judged":2}',
        ),
        (None, "-"),
    ],
)
def test_show_says_in_a_sentence_what_held_a_rollout(
    sprat: Sprat, api: OperatorApi, kept: dict[str, Any] | None, line: str
) -> None:
    running(api, ("PAUSED", []))
    api.lists["rollouts"][0]["abort"] = kept
    assert ["abort", line] in sprat("rollout", "show", "r-1").lines
    assert sprat("rollout", "show", "r-1", "-o", "json").json["abort"] == kept
