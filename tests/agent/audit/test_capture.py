"""What a record has of what was said."""

from __future__ import annotations

import hashlib
import hmac
import json

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.audit.capture import Capturing, Cut, written
from sprat_agent.audit.policy import Capture
from sprat_agent.runtime.wire import Conversation, Message, Piece, Text, Tokens, ToolCallPart

KEY = bytes(range(32))
BASIS = "GDPR Art. 6(1)(c): it is the law"


def test_a_hash_is_of_all_of_it_under_the_devices_key() -> None:
    captured = Capturing(Capture("hash", BASIS, 30, 4), KEY).of(Text("a long prompt"))
    for text in ("an ", "answer"):
        captured.hear(Piece(1, text))
    detail = captured.detail()
    expected = hmac.new(KEY, b"a long prompt", hashlib.sha256).hexdigest()
    assert detail["prompt"] == {"hmac_sha256": expected, "bytes": 13}
    expected = hmac.new(KEY, b"an answer", hashlib.sha256).hexdigest()
    assert detail["answer"] == {"hmac_sha256": expected, "bytes": 9}
    assert detail["retention_days"] == 30
    assert "prompt" not in str(detail["prompt"])


def test_a_text_is_cut_and_says_so() -> None:
    captured = Capturing(Capture("text", BASIS, 30, 6), KEY).of(Text("short"))
    captured.hear(Piece(1, "too lon"))
    captured.hear(Piece(1, "g by far"))
    assert captured.detail()["prompt"] == {"text": "short", "bytes": 5}
    assert captured.detail()["answer"] == {"text": "too lo", "bytes": 15, "cut_bytes": 9}


def test_calls_are_part_of_the_answer() -> None:
    captured = Capturing(Capture("text", BASIS, 30), KEY).of(Tokens((1, 2)))
    captured.hear(Piece(1, "", (ToolCallPart(0, "c1", "look_up"),)))
    captured.hear(
        Piece(1, "", (ToolCallPart(0, arguments='{"age":'), ToolCallPart(0, "", "", "1}")))
    )
    assert captured.detail()["answer"] == {"text": '\nlook_up {"age":1}', "bytes": 18}
    assert json.loads(str(captured.detail()["prompt"]["text"]))["tokens"] == [1, 2]  # pyright: ignore[reportIndexIssue, reportUnknownArgumentType, reportUnknownMemberType] - a text


def test_a_conversation_is_written_with_all_that_was_said() -> None:
    said = json.loads(written(Conversation((Message("user", "hello"), Message("assistant", "hi")))))
    assert [one["content"] for one in said["messages"]] == ["hello", "hi"]


@given(st.lists(st.text(), max_size=8), st.integers(1, 40))
def test_a_cut_text_is_a_beginning_within_its_bound(parts: list[str], most: int) -> None:
    cut = Cut(most)
    for part in parts:
        cut.take(part)
    whole = "".join(parts).encode(errors="replace")
    said = cut.said()
    kept = str(said["text"]).encode()
    assert len(kept) <= most
    assert whole.startswith(kept)
    assert said["bytes"] == len(whole)
    assert said.get("cut_bytes", 0) == len(whole) - len(kept)
    # No more than half a letter is lost beside what the bound cuts.
    assert len(kept) > min(most, len(whole)) - 4
