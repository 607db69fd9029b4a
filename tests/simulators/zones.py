"""Time zones whose clocks change, and another way to tell local times: walking over all minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BERLIN = "Europe/Berlin"
PARIS, NEW_YORK, LORD_HOWE = "Europe/Paris", "America/New_York", "Australia/Lord_Howe"
# Zone, the moment of a change (UTC), and whether clocks are put forward.
CHANGES = [
    (PARIS, datetime(2026, 3, 29, 1, 0, tzinfo=UTC), True),
    (PARIS, datetime(2026, 10, 25, 1, 0, tzinfo=UTC), False),
    (NEW_YORK, datetime(2026, 3, 8, 7, 0, tzinfo=UTC), True),
    (NEW_YORK, datetime(2026, 11, 1, 6, 0, tzinfo=UTC), False),
    (LORD_HOWE, datetime(2026, 10, 3, 15, 30, tzinfo=UTC), True),  # 30 minutes
    (LORD_HOWE, datetime(2026, 4, 4, 15, 0, tzinfo=UTC), False),
]


def local_minutes(zone: str, start: datetime, end: datetime) -> dict[datetime, datetime]:
    """Return when each local minute first is, or is passed over, from `start` on: by walking.

    Keys are local times without zone; start and end are far from a change.
    """
    info = ZoneInfo(zone)
    found: dict[datetime, datetime] = {}
    moment = start
    expected = start.astimezone(info).replace(tzinfo=None)
    while moment < end:
        local = moment.astimezone(info).replace(tzinfo=None, fold=0)
        while expected <= local:
            found[expected] = moment  # those before `local` were skipped: they are now
            expected += MINUTE
        moment += MINUTE
    return found
