"""Records whose body was erased: what says so, and whether all of it fits together. Pure.

A record expires by a policy that stands in the log, and `controller:audit:expired` in the log says
which did: what is gone without such a record was taken out. The records that this is read from, and
those that a log begins with, never expire.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, cast

import msgspec
from sprat_proto.audit_events import Tag

# What is left of a body: nothing. Each that was written is a JSON object.
ERASED: Final = b""
# Tags of records that never expire: what vouches for those that do, and whose key a log is of.
LASTING: Final = frozenset(
    {
        Tag.AUDIT_RESTORED,
        Tag.LOG_REKEYED,
        Tag.AUDIT_EXPIRED,
        Tag.RETENTION_SET,
        Tag.HOLD_ADDED,
        Tag.HOLD_RELEASED,
        Tag.DEVICE_ENROLLED,
    }
)
CONTROLLERS: Final = "log/controller"
DEVICES: Final = "log/devices"
# Of a policy for all tags that have none of their own.
ALL_TAGS: Final = ""
FOR_EVER: Final = "for ever"
# Art. 19 (1) and 26 (6) of Regulation (EU) 2024/1689: logs are kept for at least six months.
FLOOR_DAYS: Final = 183
MAX_DAYS: Final = 36_500
_EXPIRED: Final = Tag.AUDIT_EXPIRED.value.encode()
_SET: Final = Tag.RETENTION_SET.value.encode()

Range = tuple[int, int]  # first and last


def ranges_of(seqs: Iterable[int]) -> list[Range]:
    """Return ascending numbers as ranges."""
    found: list[Range] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found


def first_outside(inner: Sequence[Range], outer: Sequence[Range]) -> int | None:
    """Return the first number of ascending ranges that is in none of others; None: all are."""
    joined = _joined(outer)
    for first, last in inner:
        found = bisect_right(joined, (first, sys.maxsize)) - 1
        start, end = joined[found] if found >= 0 else (0, 0)
        if not start <= first <= end:
            return first
        if end < last:
            return end + 1
    return None


@dataclass(frozen=True)
class Policy:
    """How long records are kept.

    Attributes:
        tag: Of which; `ALL_TAGS`: of all that have no policy of their own.
        days: None: for ever.
    """

    tag: str
    days: int | None

    def said(self) -> str:
        """As a record says it, before and after."""
        return FOR_EVER if self.days is None else f"{self.days} days"

    def cutoff(self, now: datetime) -> datetime | None:
        """Return the moment before which records have expired; None: they never do."""
        return None if self.days is None else now - timedelta(days=self.days)


def expiry(policy: Policy, cutoff: datetime, count: int) -> dict[str, object]:
    """Return what each record of an expiry says, beside which ones expired."""
    said: dict[str, object] = {"count": count, "before": cutoff.isoformat()}
    return said | {"policy": {"tag": policy.tag, "days": policy.days or 0}}


def of_controller(ranges: Sequence[Range]) -> dict[str, object]:
    """Return what an expiry says of records of the controller's own log."""
    listed = [list(one) for one in ranges]
    return {"from": ranges[0][0], "up_to": ranges[-1][1], "ranges": listed}


def of_devices(ranges: Mapping[str, Sequence[Range]]) -> dict[str, object]:
    """Return what an expiry says of records of devices' logs, by device."""
    return {"devices": {name: [list(one) for one in some] for name, some in ranges.items()}}


@dataclass
class Expiries:
    """What a reader of a whole log has seen of them, from its first record on.

    Attributes:
        count: How many records have expired.
    """

    count: int = 0
    _gone: list[Range] = field(default_factory=list[Range])
    _covered: list[Range] = field(default_factory=list[Range])
    _policies: dict[str, int] = field(default_factory=dict[str, int])
    _wrong: tuple[int, str] | None = None

    def gone(self, seq: int) -> None:
        """Take in a record without a body, in its place."""
        self.count += 1
        if self._gone and self._gone[-1][1] == seq - 1:
            self._gone[-1] = (self._gone[-1][0], seq)
        else:
            self._gone.append((seq, seq))

    def take(self, seq: int, body: bytes) -> None:
        """Take in a record that is there; most are none of ours."""
        if _EXPIRED not in body and _SET not in body:
            return
        record = _record(body)
        detail = record.get("detail")
        if not isinstance(detail, dict):
            return
        said = cast("dict[str, Any]", detail)
        match record.get("tag"):
            case Tag.RETENTION_SET.value:
                self._policies[str(said.get("tag"))] = _whole(said.get("days"))
            case Tag.AUDIT_EXPIRED.value:
                self._expired(seq, said)
            case _:
                pass

    def fault(self) -> tuple[int, str] | None:
        """Return the first record that should not be gone, and why; None: there is none."""
        first = first_outside(self._gone, self._covered)
        if first is not None:
            return first, f"record {first} was removed, no record says that it expired"
        return self._wrong

    def _expired(self, seq: int, said: Mapping[str, Any]) -> None:
        ranges = read_ranges(said.get("ranges"))
        # What it says of later records, or of itself, nobody could have known then.
        self._covered += [one for one in ranges if one[1] < seq]
        policy = said.get("policy")
        named = cast("dict[str, Any]", policy) if isinstance(policy, dict) else {}
        days = _whole(named.get("days"))
        if self._wrong is None and (days == 0 or self._policies.get(str(named.get("tag"))) != days):
            first = ranges[0][0] if ranges else seq
            why = (
                f"record {first} was removed: record {seq} says that it expired after {days} days,"
                " and no policy in the log said so then"
            )
            self._wrong = first, why


def of_device(body: bytes, device_id: str) -> list[Range]:
    """Return which records of a device a record says to have expired."""
    record = _record(body)
    detail = record.get("detail")
    if record.get("tag") != Tag.AUDIT_EXPIRED.value or not isinstance(detail, dict):
        return []
    devices = cast("dict[str, Any]", detail).get("devices")
    found = cast("dict[str, Any]", devices).get(device_id) if isinstance(devices, dict) else None
    return read_ranges(found)


def read_ranges(said: object) -> list[Range]:
    """Return the ranges that a record lists; what is none is left out."""
    found: list[Range] = []
    for one in cast("list[object]", said) if isinstance(said, list) else []:
        match one:
            case [int() as first, int() as last] if 0 < first <= last:
                found.append((first, last))
            case _:
                pass
    return found


def _joined(ranges: Iterable[Range]) -> list[Range]:
    joined: list[Range] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _record(body: bytes) -> dict[str, Any]:
    try:
        decoded: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return cast("dict[str, Any]", decoded) if isinstance(decoded, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
