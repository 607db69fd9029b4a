"""What each version of Landlock's interface is asked for, and what it lacks."""

from __future__ import annotations

import struct

import pytest
from sprat_agent.worker.jail import landlock


@pytest.mark.parametrize(
    ("abi", "words"),
    [
        (1, [0x1FFF]),
        (2, [0x3FFF]),
        (3, [0x7FFF]),
        (4, [0x7FFF, 3]),
        (5, [0xFFFF, 3]),
        (6, [0xFFFF, 3, 3]),
        (7, [0xFFFF, 3, 3]),
        (99, [0xFFFF, 3, 3]),
    ],
)
def test_a_kernel_is_asked_for_all_that_it_has(abi: int, words: list[int]) -> None:
    assert landlock.handled(abi) == struct.pack(f"={len(words)}Q", *words)


def test_what_an_old_kernel_lacks_is_named() -> None:
    assert landlock.lacking(1) == (
        "landlock.truncate",
        "landlock.network",
        "landlock.ioctl",
        "landlock.scopes",
    )
    assert landlock.lacking(4) == ("landlock.ioctl", "landlock.scopes")
    assert landlock.lacking(6) == ()
