"""What of inference goes on record: the policy of a device, as its owner writes it. Pure.

A TOML file, the same one for as many devices as are to have it:

    inference = "each"          # or "1/100", or "hourly": sums alone, which is what holds without

    [capture]                   # without it nothing of what was said is kept
    content = "hash"            # or "text"
    basis = "GDPR Art. 6(1)(c) with AI Act Art. 26(6): logs of a high-risk system"
    retention_days = 180
    most_bytes = 4096           # of each text; more is cut
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from msgspec import Struct

HOURLY: Final = "hourly"
EACH: Final = "each"
MOST_BYTES: Final = 16 << 10
MOST_ONE_IN: Final = 1_000_000
MOST_DAYS: Final = 36_500
DEFAULT_TEXT_BYTES: Final = 4096
MOST_TEXT_BYTES: Final = 32 << 10
LEAST_BASIS: Final = 10  # letters: shorter is no sentence
MOST_BASIS: Final = 500
_SAMPLED: Final = re.compile(r"1/([1-9][0-9]{0,6})")


class PolicyError(ValueError):
    """The policy cannot be obeyed; one sentence says why."""


@dataclass(frozen=True)
class Capture:
    """What is kept of what was said, why that is lawful, and for how long.

    Attributes:
        content: `hash` or `text`.
        basis: The legal basis, a sentence.
        retention_days: After how many days it is to be erased wherever it is.
        most_bytes: Of each text, in UTF-8; a hash is of all of it.
    """

    content: Literal["hash", "text"]
    basis: str
    retention_days: int
    most_bytes: int = DEFAULT_TEXT_BYTES


@dataclass(frozen=True)
class Policy:
    """What goes on record.

    Attributes:
        one_in: One of so many requests has a record of its own; 0: there are sums alone.
        capture: What is kept of what was said; None: nothing.
    """

    one_in: int = 0
    capture: Capture | None = None

    def told(self) -> dict[str, str]:
        """Return what whoever asks the device is told of it."""
        named = {0: HOURLY, 1: EACH}
        return {
            "inference": named.get(self.one_in, f"1/{self.one_in}"),
            "content": self.capture.content if self.capture else "none",
        }


class _Capture(Struct, frozen=True, forbid_unknown_fields=True):
    content: str
    basis: str = ""
    retention_days: int = 0
    most_bytes: int = DEFAULT_TEXT_BYTES


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    inference: str = HOURLY
    capture: _Capture | None = None


def parse(data: bytes) -> Policy:
    """Read a policy.

    Raises:
        PolicyError: It is none, or asks for content without saying why and for how long.
    """
    if len(data) > MOST_BYTES:  # its reader's time grows with the square of a name's dots
        raise PolicyError(f"expected up to {MOST_BYTES} bytes, found {len(data)}")
    try:
        found = msgspec.toml.decode(data, type=_File)
    except (ValueError, RecursionError) as error:  # a DecodeError is a ValueError
        raise PolicyError(
            f"expected a TOML file with `inference` and [capture]: {error}"
        ) from error
    one_in = _one_in(found.inference)
    return Policy(one_in, _capture(found.capture, one_in) if found.capture else None)


def _one_in(said: str) -> int:
    if said == HOURLY:
        return 0
    if said == EACH:
        return 1
    sampled = _SAMPLED.fullmatch(said)
    if sampled is None or int(sampled[1]) > MOST_ONE_IN:
        raise PolicyError(
            f"expected `each`, `hourly` or `1/N` with N up to {MOST_ONE_IN} as inference, found"
            f" {said[:40]!r}"
        )
    return int(sampled[1])


def _capture(said: _Capture, one_in: int) -> Capture:
    content: Literal["hash", "text"]
    if said.content == "hash":
        content = "hash"
    elif said.content == "text":
        content = "text"
    else:
        raise PolicyError(f"expected `hash` or `text` as content, found {said.content[:40]!r}")
    basis = " ".join(said.basis.split())
    if not LEAST_BASIS <= len(basis) <= MOST_BASIS:
        raise PolicyError(
            f"to keep the {content} of what is said takes a legal basis: expected a sentence of"
            f" {LEAST_BASIS} to {MOST_BASIS} letters as basis, found {basis[:40]!r}"
        )
    if not 1 <= said.retention_days <= MOST_DAYS:
        raise PolicyError(
            f"to keep the {content} of what is said takes a retention: expected 1 to {MOST_DAYS}"
            f" as retention_days, found {said.retention_days}"
        )
    if not 1 <= said.most_bytes <= MOST_TEXT_BYTES:
        raise PolicyError(f"expected 1 to {MOST_TEXT_BYTES} as most_bytes, found {said.most_bytes}")
    if not one_in:
        raise PolicyError(
            f"sums have no place for the {content} of what is said: expected `each` or `1/N` as"
            " inference beside [capture], found `hourly`"
        )
    return Capture(content, basis, said.retention_days, said.most_bytes)
