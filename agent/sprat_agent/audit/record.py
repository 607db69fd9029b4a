"""One audit record: canonical JSON, a leaf of the device's log. Pure.

The body has the fields of the controller's own log, so that one reader reads both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sprat_proto import canonical

_TAG: Final = re.compile(r"([a-z]+):[a-z]+:([a-z]+)")
_FAILURES: Final = frozenset({"refused", "failed", "crashed", "diverged"})


@dataclass(frozen=True)
class Record:
    """A record at its place in the log."""

    seq: int  # 1, 2, 3 ... for ever
    body: bytes
    seal: bytes


def make(
    seq: int,
    *,
    at: datetime,
    tag: str,
    subject: str,
    detail: Mapping[str, object],
) -> bytes:
    """Return the body of the record at a position.

    Args:
        seq: Its position, from 1.
        at: When, timezone-aware.
        tag: `source:subject:action`; the source is also the actor, and actions that say that
            something went wrong (`refused`, `crashed`, ...) make the outcome a failure.
        subject: To which thing, for example `execution/<id>`.
        detail: Integers, strings, booleans and lists or mappings of them.
    """
    match = _TAG.fullmatch(tag)
    if match is None:
        raise ValueError(f"expected a tag of the form source:subject:action, found {tag!r}")
    return canonical.encode(
        {
            "v": 1,
            "seq": seq,
            "ts": at.isoformat(timespec="milliseconds"),
            "actor": match[1],
            "tag": tag,
            "subject": subject,
            "outcome": "failure" if match[2] in _FAILURES else "success",
            "detail": dict(detail),
        }
    )
