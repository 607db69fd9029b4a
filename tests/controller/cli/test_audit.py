from __future__ import annotations

from typing import Any

import pytest
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Sprat

TAGS = ["operator:rollout:created", "operator:rollout:started"]


@pytest.fixture(autouse=True)
def records(api: OperatorApi) -> list[dict[str, Any]]:
    api.audit = [
        {
            "seq": number,
            "body": {
                "seq": number,
                "ts": f"2026-11-23T10:00:{number:02}+00:00",
                "actor": {"type": "token", "id": "root" if number < 5 else "ci"},
                "tag": TAGS[number % 2],
                "subject": "rollout/r-1",
                "outcome": "success",
                "detail": {"devices": number},
            },
        }
        for number in range(1, 11)
    ]
    return api.audit


@pytest.mark.parametrize("device", [[], ["--device", "gw-1"]])
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], list(range(1, 11))),
        (["--limit", "3"], [1, 2, 3]),
        (["--after", "8"], [9, 10]),
        (["--tag", TAGS[1]], [1, 3, 5, 7, 9]),
        (["--tag", TAGS[1], "--limit", "2"], [1, 3]),
        (["--actor", "token:ci", "--tag", TAGS[0]], [6, 8, 10]),
    ],
)
def test_records_are_listed_oldest_first_and_filtered(
    sprat: Sprat, device: list[str], options: list[str], found: list[int]
) -> None:
    said = sprat("audit", "list", *device, *options)
    assert [int(line[0]) for line in said.lines] == found
    as_json = sprat("audit", "list", *device, *options, "-o", "json").json
    assert [item["body"]["seq"] for item in as_json["items"]] == found


def test_a_record_says_who_did_what_to_which_thing(sprat: Sprat) -> None:
    assert sprat("audit", "list", "--limit", "1").lines == [
        [
            *("1", "2026-11-23T10:00:01+00:00", "token:root", "operator:rollout:started"),
            *("rollout/r-1", "success", "devices=1"),
        ]
    ]


@pytest.mark.parametrize("device", [[], ["--device", "gw-1"]])
def test_an_unbroken_log_verifies(sprat: Sprat, device: list[str]) -> None:
    said = sprat("audit", "verify", *device, "-o", "json")
    assert said.status == 0
    assert said.json == {"ok": True, "records": 10}


@pytest.mark.parametrize("device", [[], ["--device", "gw-1"]])
def test_a_broken_log_ends_with_6(sprat: Sprat, api: OperatorApi, device: list[str]) -> None:
    api.audit_ok = False
    said = sprat("audit", "verify", *device)
    assert said.status == 6
    assert said.lines[0] == ["ok", "no"]
    assert "broken" in said.errors
