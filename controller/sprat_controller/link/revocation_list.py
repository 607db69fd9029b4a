"""When the broker's list of revoked certificates is to be renewed, and when people must know. Pure.

A broker whose list is out of date lets nobody in (mosquitto#1826): renewing that stops is an outage
of every device a week later. The alarm comes days before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509

RENEW_AFTER: Final = timedelta(hours=1)
RETRY_AFTER: Final = timedelta(minutes=1)
# Lists are good for 7 days: it is said after a day without a new one, and again every day.
ALARM_BEFORE: Final = timedelta(days=6)
ALARM_AGAIN: Final = timedelta(days=1)
_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True)
class RevocationList:
    """The lists of all issuers; the first that expires counts."""

    pem: bytes
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Standing:
    """How it stands with the list.

    Attributes:
        held: What the broker has.
        asked_at: When a new one was last asked for.
        was_given: It was given then.
        alarmed_at: When the alarm was last raised over the one that is held.
    """

    held: RevocationList
    asked_at: datetime | None = None
    was_given: bool = False
    alarmed_at: datetime | None = None


class Health(StrEnum):
    """What the list means for devices."""

    GOOD = "GOOD"
    LATE = "LATE"  # not renewed for long; everybody is let in still
    EXPIRED = "EXPIRED"  # nobody is let in


def read(pem: bytes) -> RevocationList:
    """Return the lists in `pem`.

    Raises:
        ValueError: There is none, or one that is not whole or never expires.
    """
    lists = [x509.load_pem_x509_crl(one) for one in _LIST.findall(pem)]
    ends = [one.next_update_utc for one in lists if one.next_update_utc]
    if not lists or len(ends) != len(lists):
        raise ValueError(
            f"expected lists of revoked certificates that expire, found {len(lists)} of which"
            f" {len(ends)} do"
        )
    return RevocationList(pem, min(one.last_update_utc for one in lists), min(ends))


def health(held: RevocationList, now: datetime) -> Health:
    """Tell what the list means now."""
    if now >= held.expires_at:
        return Health.EXPIRED
    return Health.LATE if held.expires_at - now < ALARM_BEFORE else Health.GOOD


def is_due(standing: Standing, now: datetime) -> bool:
    """Tell whether to ask for a new list.

    A clock that was set back makes it due too.
    """
    if standing.asked_at is None:
        return True
    pause = RENEW_AFTER if standing.was_given else RETRY_AFTER
    return not timedelta() <= now - standing.asked_at < pause


def is_alarm_due(standing: Standing, now: datetime) -> bool:
    """Tell whether people must be told now."""
    if health(standing.held, now) is Health.GOOD:
        return False
    raised = standing.alarmed_at
    if raised is None or now < raised:
        return True
    # That nobody is let in any more is news, whatever was said before.
    has_just_expired = raised < standing.held.expires_at <= now
    return has_just_expired or now - raised >= ALARM_AGAIN
