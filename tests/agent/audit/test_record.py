"""What an audit record is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from sprat_agent.audit.record import make
from sprat_proto import canonical

NOW = datetime(2026, 11, 24, 1, 2, 3, 4000, tzinfo=UTC)


def test_a_record_says_who_what_and_when_in_canonical_form() -> None:
    body = make(7, at=NOW, tag="agent:model:refused", subject="m@1", detail={"b": 1, "a": 2})
    assert json.loads(body) == {
        "v": 1,
        "seq": 7,
        "ts": "2026-11-24T01:02:03.004+00:00",
        "actor": "agent",
        "tag": "agent:model:refused",
        "subject": "m@1",
        "outcome": "failure",
        "detail": {"a": 2, "b": 1},
    }
    assert canonical.encode(json.loads(body)) == body


@pytest.mark.parametrize("tag", ["agent", "agent:model", "Agent:model:loaded", "a:b:c:d", "a:b:"])
def test_a_tag_of_another_form_is_a_bug(tag: str) -> None:
    with pytest.raises(ValueError, match="source:subject:action"):
        make(1, at=NOW, tag=tag, subject="x", detail={})
