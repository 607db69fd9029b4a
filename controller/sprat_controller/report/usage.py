"""How often applications asked which model on which device, by the hour: devices' own words. Pure.

A record of one answer counts once; one that is a sum counts as often as it says, in the hour that
it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sprat_controller.report.record import Json, Record, cite, moment, number

TAGS: Final = "application:inference:"
_MOST: Final = 1 << 53


@dataclass
class _Sum:
    records: list[Record] = field(default_factory=list[Record])
    count: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass
class Usage:
    """Follows the logs of devices."""

    _sums: dict[tuple[str, str, str, str, str], _Sum] = field(
        default_factory=dict[tuple[str, str, str, str, str], _Sum]
    )

    def take(self, device: str, record: Record) -> None:
        """Look at the next record of a device's log."""
        if not record.tag.startswith(TAGS):
            return
        detail = record.detail
        outcome = record.said("outcome") or record.tag.removeprefix(TAGS)
        key = (device, _hour(record), record.subject, record.said("digest"), outcome)
        total = self._sums.setdefault(key, _Sum())
        total.records.append(record)
        total.count = _sum(total.count, max(number(detail.get("count")), 0) or 1)
        total.tokens_in = _sum(total.tokens_in, number(detail.get("tokens_in")))
        total.tokens_out = _sum(total.tokens_out, number(detail.get("tokens_out")))

    def statements(self) -> list[tuple[str, Json]]:
        """Return what each hour came to, with the hour."""
        return [
            (
                hour,
                {
                    "records": cite(*total.records),
                    "device": device,
                    "hour": hour,
                    "model": subject,
                    "digest": digest,
                    "outcome": outcome,
                    "count": total.count,
                    "tokens_in": total.tokens_in,
                    "tokens_out": total.tokens_out,
                },
            )
            for (device, hour, subject, digest, outcome), total in sorted(self._sums.items())
        ]


def _sum(one: int, more: int) -> int:
    """Return the sum, within what JSON holds exactly: a device may say anything."""
    return min(one + max(more, 0), _MOST)


def _hour(record: Record) -> str:
    """Return the hour that a record is of, as its beginning; empty: it does not say."""
    at = moment(record.said("hour")) or record.at
    hour = at.replace(minute=0, second=0, microsecond=0) if at else None
    return hour.isoformat(timespec="minutes") if hour else ""
