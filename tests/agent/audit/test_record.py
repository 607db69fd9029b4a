"""What an audit record is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from sprat_agent.audit.record import Moment, make
from sprat_proto import canonical

NOW = datetime(2026, 11, 24, 1, 2, 3, 4000, tzinfo=UTC)
MOMENT = Moment(NOW, is_synchronised=True, boot_id="b1", since_boot_ns=5_000_000_001)


def test_a_record_says_who_what_and_when_in_canonical_form() -> None:
    body = make(
        "gw-1", 7, moment=MOMENT, tag="agent:model:refused", subject="m@1", detail={"b": 1, "a": 2}
    )
    assert json.loads(body) == {
        "v": 2,
        "log": "gw-1",
        "seq": 7,
        "ts": "2026-11-24T01:02:03.004+00:00",
        "tsq": "synced",
        "boot": "b1",
        "mono": 5_000_000_001,
        "actor": {"type": "device", "id": "gw-1"},
        "tag": "agent:model:refused",
        "subject": "m@1",
        "outcome": "failure",
        "detail": {"a": 2, "b": 1},
    }
    assert canonical.encode(json.loads(body)) == body


@pytest.mark.parametrize("tag", ["agent", "agent:model", "Agent:model:loaded", "a:b:c:d", "a:b:"])
def test_a_tag_of_another_form_is_a_bug(tag: str) -> None:
    with pytest.raises(ValueError, match="source:subject:action"):
        make("gw-1", 1, moment=MOMENT, tag=tag, subject="x", detail={})


def test_a_clock_that_nothing_keeps_right_is_said_to_be_so() -> None:
    body = make("gw-1", 1, moment=Moment(NOW), tag="agent:model:loaded", subject="m", detail={})
    record = json.loads(body)
    assert record["tsq"] == "unsynced"
    assert not {"boot", "mono"} & set(record)


def test_who_asked_is_who_did_what_applications_do() -> None:
    def actor_of(tag: str, detail: dict[str, object]) -> dict[str, str]:
        body = make("gw-1", 1, moment=Moment(NOW), tag=tag, subject="m", detail=detail)
        return json.loads(body)["actor"]

    caller: dict[str, object] = {"caller": "key:till-1"}
    application = {"type": "application", "id": "key:till-1"}
    assert actor_of("application:inference:answered", caller) == application
    device = {"type": "device", "id": "gw-1"}
    assert actor_of("application:inference:answered", {}) == device
    assert actor_of("agent:model:loaded", caller) == device
