"""The body of a request as it comes in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sprat_agent.api.body import MAX_BODY_BYTES, read_body
from sprat_agent.api.faults import ApiError
from starlette.requests import Request
from starlette.types import Message


def coming(*messages: Message) -> Request:
    left = list(messages)

    async def receive() -> Message:
        return left.pop(0)

    return Request({"type": "http"}, receive)


def part(data: bytes, *, is_last: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": not is_last}


async def test_a_body_comes_in_parts() -> None:
    assert await read_body(coming(part(b"ab"), part(b"c", is_last=True))) == b"abc"


@pytest.mark.parametrize(
    ("messages", "status", "sentence"),
    [
        ([part(b"ab"), {"type": "http.disconnect"}], 400, "broke off after 2 bytes"),
        ([part(b"x" * MAX_BODY_BYTES), part(b"x")], 413, "found a longer one"),
    ],
)
async def test_a_body_that_breaks_off_or_is_too_long_is_no_fault_of_ours(
    messages: Sequence[Message], status: int, sentence: str
) -> None:
    with pytest.raises(ApiError, match=sentence) as caught:
        await read_body(coming(*messages))
    assert caught.value.status == status
