"""What an audit record is, and that the controller's reading of it agrees."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.audit.record import GENESIS, chain, make
from sprat_proto import canonical

NOW = datetime(2026, 11, 24, 1, 2, 3, 4000, tzinfo=UTC)


def test_a_record_says_who_what_and_when_in_canonical_form() -> None:
    one = make(
        7, GENESIS, at=NOW, tag="agent:model:refused", subject="m@1", detail={"b": 1, "a": 2}
    )
    assert json.loads(one.body) == {
        "v": 1,
        "seq": 7,
        "ts": "2026-11-24T01:02:03.004+00:00",
        "actor": "agent",
        "tag": "agent:model:refused",
        "subject": "m@1",
        "outcome": "failure",
        "detail": {"a": 2, "b": 1},
    }
    assert canonical.encode(json.loads(one.body)) == one.body
    assert one.hash == hashlib.sha256(GENESIS + one.body).digest()


@pytest.mark.parametrize("tag", ["agent", "agent:model", "Agent:model:loaded", "a:b:c:d", "a:b:"])
def test_a_tag_of_another_form_is_a_bug(tag: str) -> None:
    with pytest.raises(ValueError, match="source:subject:action"):
        make(1, GENESIS, at=NOW, tag=tag, subject="x", detail={})


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=6), st.data())
def test_any_change_to_any_record_changes_the_end_of_the_chain(
    bodies: list[bytes], data: st.DataObject
) -> None:
    def end(of: list[bytes]) -> bytes:
        hash_ = GENESIS
        for body in of:
            hash_ = chain(hash_, body)
        return hash_

    at = data.draw(st.integers(0, len(bodies) - 1))
    changed = [*bodies[:at], bodies[at] + b"x", *bodies[at + 1 :]]
    assert end(changed) != end(bodies)
    assert end(bodies[:at] + bodies[at + 1 :]) != end(bodies)
