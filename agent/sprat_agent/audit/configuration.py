"""What the agent was started with, compared with the start before: names and digests, no secrets.

Of each setting only a digest is kept, so all that is known of it is whether it is another one now.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct
from sprat_proto import canonical
from sprat_proto.audit_events import Tag

from sprat_agent.audit.journal import Journal
from sprat_agent.audit.policy import Capture
from sprat_agent.audit.record import Change
from sprat_agent.errors import StateError
from sprat_agent.state import State


class CaptureTerms(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of what is said; see `policy.Capture`."""

    content: str = "none"
    basis: str = ""
    retention_days: int = 0
    most_bytes: int = 0

    @staticmethod
    def of(capture: Capture | None) -> CaptureTerms:
        """Return the terms of a policy."""
        if capture is None:
            return CaptureTerms()
        one = capture
        return CaptureTerms(one.content, one.basis, one.retention_days, one.most_bytes)


class StartedWith(Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent was started with."""

    settings: dict[str, str]  # the digest of each, by its name
    capture: CaptureTerms

    @property
    def digest(self) -> str:
        """The digest of all settings."""
        return canonical.sha256_hex(canonical.encode(self.settings))


def started_with(settings: Mapping[str, object], capture: Capture | None) -> StartedWith:
    """Return what stands for these settings.

    Args:
        settings: By name: texts, numbers, booleans, or lists of them; of a file, what is in it.
        capture: The policy's.
    """
    digests = {
        name: canonical.sha256_hex(canonical.encode(value)) for name, value in settings.items()
    }
    return StartedWith(digests, CaptureTerms.of(capture))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of what is another one, there anew, or there no more."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def note(state: State, journal: Journal, now: StartedWith) -> None:
    """Have on record what is not as it was at the start before.

    It is there before anything of what it changes can happen.

    Raises:
        StateError: It could not be kept.
    """
    with state.transaction() as connection:
        row = connection.execute("SELECT body FROM started_with").fetchone()
        before = _read(row[0]) if row else None
        if before == now:
            return
        names = changed(before.settings if before else {}, now.settings)
        if names:
            change = Change(before.digest if before else "", now.digest)
            tag, detail = Tag.CONFIGURATION_CHANGED, {"changed": names}
            journal.write(connection, tag, "configuration", detail, change=change)
        terms = before.capture if before else CaptureTerms()
        if terms != now.capture:
            both = {"before": _said(terms), "after": _said(now.capture)}
            change = Change(terms.content, now.capture.content)
            journal.write(connection, Tag.CAPTURE_CHANGED, "capture", both, change=change)
        connection.execute(
            "INSERT INTO started_with VALUES (1, ?1) ON CONFLICT (only) DO UPDATE SET body = ?1",
            (canonical.encode(now),),
        )


def _said(terms: CaptureTerms) -> dict[str, object]:
    return {"content": terms.content, **msgspec.to_builtins(terms)}


def _read(body: bytes) -> StartedWith:
    try:
        return msgspec.json.decode(body, type=StartedWith)
    except msgspec.DecodeError as error:
        raise StateError(
            f"expected in agent.db what the agent was started with, found other bytes: {error}"
        ) from error
