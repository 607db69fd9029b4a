"""A release that crashes too often on this device is not started here any more.

What counts is the digest: each death of a worker that this device did not end itself, over all
starts of the agent. Nothing resets it: a release that is mended is another digest.
"""

from __future__ import annotations

from typing import Final, Protocol

from sprat_proto.states import ReasonCode

from sprat_agent.sync.ports import ExecutionError

MAX_CRASHES: Final = 3


class Crashes(Protocol):
    """How often each release crashed here; kept before anything follows from it."""

    def note(self, digest: str) -> int:
        """Count one more crash, durably; return how many there were."""
        ...

    def count(self, digest: str) -> int:
        """Return how many crashes there were."""
        ...


def is_quarantined(crashes: int) -> bool:
    """Tell whether so many crashes are enough."""
    return crashes >= MAX_CRASHES


def refuse_quarantined(name: str, digest: str, crashes: Crashes) -> None:
    """Refuse to have to do with what has crashed too often.

    Raises:
        ExecutionError: QUARANTINED.
    """
    count = crashes.count(digest)
    if is_quarantined(count):
        raise quarantined(name, count)


def quarantined(name: str, count: int) -> ExecutionError:
    """Return the refusal of a release that has crashed so often."""
    return ExecutionError(
        ReasonCode.QUARANTINED,
        f"{name} crashed {count} times on this device and is not started here any more: publish a"
        " mended release",
        expected=f"fewer than {MAX_CRASHES} crashes",
        found=f"{count} crashes",
    )
