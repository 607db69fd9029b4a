"""An emergency: one person lets a rollout go without the approvals that it lacks. Pure.

What devices enforce themselves stays as it is. Somebody else reviews it afterwards.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
from sprat_proto.states import RolloutState

from sprat_controller.errors import RequestError
from sprat_controller.rollout.phases import ROLLOUT, RolloutEvent

MIN_WORDS: Final = 3  # of a reason: less tells a reviewer nothing
MAX_TEXT: Final = 512
# Control characters and halves of pairs: no text that is read by people has them.
_NOT_TEXT: Final = frozenset({"Cc", "Cs"})
_ENDS: Final = (RolloutEvent.STOP, RolloutEvent.ROLL_BACK)


class Verdict(StrEnum):
    """What a reviewer makes of it. A format: requests and records say it."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Review:
    """What somebody else said of it afterwards."""

    by: str
    verdict: Verdict
    note: str
    at: datetime


@dataclass(frozen=True)
class Override:
    """Who let the rollout go, as it was frozen then, and why; review None: it is pending."""

    by: str
    reason: str
    at: datetime
    review: Review | None = None


def to_json(override: Override) -> dict[str, Any]:
    """Return it as it stands in `Rollout.approval_override`."""
    return msgspec.to_builtins(override)


def from_json(stored: Mapping[str, Any] | None) -> Override | None:
    """Return what is stored; None: nobody did."""
    return None if stored is None else msgspec.convert(stored, Override)


def reason(given: str) -> str:
    """Return a reason on one line.

    Raises:
        RequestError: `invalid_reason`: it does not say why.
    """
    said = note(given, "reason")
    found = len(said.split())
    if found < MIN_WORDS:
        raise RequestError(
            "invalid_reason",
            f"expected why the approvals cannot be waited for, in at least {MIN_WORDS} words,"
            f" found {f'{said!r}' if found else 'nothing'}: whoever reviews it reads that",
        )
    return said


def note(given: str, what: str = "note") -> str:
    """Return a text of a person's on one line.

    Raises:
        RequestError: It has characters that are no text, or is too long.
    """
    said = " ".join(given.split())
    wrong = next((one for one in said if unicodedata.category(one) in _NOT_TEXT), None)
    if wrong is not None:
        raise RequestError(
            f"invalid_{what}", f"expected a {what} in words, found U+{ord(wrong):04X} in it"
        )
    if len(said) > MAX_TEXT:
        raise RequestError(
            f"invalid_{what}",
            f"expected a {what} of at most {MAX_TEXT} characters, found {len(said)}",
        )
    return said


def in_words(override: Override) -> str:
    """Return who did it, why, and what became of it."""
    review = override.review
    if review is None:
        after = "review pending"
    else:
        after = f"{review.verdict} by {review.by}" + (f": {review.note}" if review.note else "")
    return f"override of {override.by}: {override.reason}; {after}"


def told(override: Override, rollout_id: str, state: RolloutState) -> dict[str, Any]:
    """Return what is shown of it, beside the rollout as it stands."""
    said = f"approved by {in_words(override)}"
    is_rejected = override.review is not None and override.review.verdict is Verdict.REJECTED
    ways = [f"`sprat rollout {one} {rollout_id}`" for one in _ENDS if one in ROLLOUT[state]]
    if is_rejected and ways:
        said += f"; the rollout is {state} all the same: {' or '.join(ways)} ends it"
    return {**to_json(override), "said": said}
