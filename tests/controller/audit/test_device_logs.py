"""What a device tells is bounded before it is read."""

from __future__ import annotations

import pytest
from simulators.sealed import SEED, sealed
from sprat_controller.audit.device_logs import (
    MAX_BODY_BYTES,
    MAX_DEPTH,
    Followed,
    Sealed,
    beginning,
    follow,
)


def told(*bodies: bytes) -> Followed:
    records = [Sealed(one.seq, one.body, one.seal) for one in sealed(bodies)]
    return follow(beginning(SEED), records)


def nested(levels: int) -> bytes:
    """Return a record that is nested so deeply, itself included."""
    return b'{"seq":2,"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize(
    "body",
    [
        nested(MAX_DEPTH),
        b'{"seq":2,"x":"' + b"[" * 1000 + b'"}',
        b'{"seq":2,"x":"\\"' + b"{" * 1000 + b'"}',
        b'{"seq":2,"x":[' + b",".join([b"[]"] * 1000) + b"]}",
    ],
)
def test_what_is_not_nested_too_deeply_is_taken(body: bytes) -> None:
    found = told(b'{"seq":1}', body, b'{"seq":3}')
    assert (found.broken, found.head.size) == (None, 3)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (nested(MAX_DEPTH + 1), "nested too deeply"),
        (nested(990), "nested too deeply"),
        (nested(30_000), "nested too deeply"),
        (b"[" * 30_000, "nested too deeply"),
        (b'{"seq":2,"x":"' + b"x" * MAX_BODY_BYTES + b'"}', "too large"),
        (b'{"seq":3}', "with its position"),
        (b"[2]", "with its position"),
        (b"\xff", "with its position"),
        (b"", "with its position"),
    ],
)
def test_what_no_reader_could_show_breaks_the_log_where_it_stands(body: bytes, why: str) -> None:
    found = told(b'{"seq":1}', body, b'{"seq":3}')
    assert found.broken is not None
    assert (found.broken.seq, found.head.size) == (2, 1)
    assert why in found.broken.message
