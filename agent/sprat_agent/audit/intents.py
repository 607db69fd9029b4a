"""What this device is about to change, written before it does, and how that came out, after it.

Each effect is a pair of records: `…:intended` with what is and what will be (`before`, `after`),
and `…:ended` with the position of the intent and the outcome. An intent is open, in a row of its
own, until its end is written in the same transaction that removes the row; so each has exactly one,
whatever happens in between. What the process did not live to write, the next one does (`settle`):
it looks how the thing is now. If that is what was intended, it was done; if not, it failed, and the
reason is `interrupted`. What goes on from there is the business of who had begun it, with an intent
of its own.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sprat_proto.audit_events import Tag

from sprat_agent.audit.journal import Journal
from sprat_agent.audit.record import Change, Ending
from sprat_agent.errors import StateError
from sprat_agent.state import State

_LOG = logging.getLogger(__name__)

INTERRUPTED: Final = "interrupted"
_SUCCESS: Final = Ending(is_success=True)


class Effect(StrEnum):
    """What is changed; stored by these names."""

    ACTIVATION = "activation"  # another release is to answer under an alias
    ROLLBACK = "rollback"  # the one before is to answer (again)
    REMOVAL = "removal"  # an alias is to stand for nothing, a version is to go
    ROOT = "root"  # another root of a repository is to be trusted
    CERTIFICATE = "certificate"  # another key and certificate are to be used
    CONFIGURATION = "configuration"  # other settings are to hold


TAGS: Final[Mapping[Effect, tuple[Tag, Tag]]] = {
    Effect.ACTIVATION: (Tag.ACTIVATION_INTENDED, Tag.ACTIVATION_ENDED),
    Effect.ROLLBACK: (Tag.ROLLBACK_INTENDED, Tag.ROLLBACK_ENDED),
    Effect.REMOVAL: (Tag.REMOVAL_INTENDED, Tag.REMOVAL_ENDED),
    Effect.ROOT: (Tag.ROOT_INTENDED, Tag.ROOT_ENDED),
    Effect.CERTIFICATE: (Tag.CERTIFICATE_INTENDED, Tag.CERTIFICATE_ENDED),
    Effect.CONFIGURATION: (Tag.CONFIGURATION_INTENDED, Tag.CONFIGURATION_ENDED),
}


@dataclass(frozen=True)
class Intent:
    """An effect that was written down and may have begun.

    Attributes:
        seq: Of its record.
        effect: What is changed.
        subject: Of what thing: `kind/name`.
        before: Its state or digest; "": there was none.
        after: What it is to be; "": nothing.
    """

    seq: int
    effect: Effect
    subject: str
    before: str
    after: str

    @property
    def kind(self) -> str:
        """Of the thing."""
        return self.subject.partition("/")[0]

    @property
    def name(self) -> str:
        """Of the thing, among those of its kind."""
        return self.subject.partition("/")[2]


class Intents:
    """Writes intents and ends; whoever does that in the event loop wakes the link."""

    def __init__(self, state: State, journal: Journal) -> None:
        self._state = state
        self._journal = journal
        self._lock = threading.Lock()  # effects are in several threads
        # Of ends that the disk did not take.
        self._waiting: list[tuple[Intent, Ending]] = []

    def begin(self, effect: Effect, subject: str, before: str, after: str) -> Intent:
        """Write an intent down; only then may the effect begin.

        Raises:
            StateError: It could not be written.
        """
        self._write_waiting()
        with self._state.transaction() as connection:
            seq = self._journal.write(
                connection, TAGS[effect][0], subject, {}, change=Change(before, after)
            )
            connection.execute(
                "INSERT INTO intent VALUES (?, ?, ?, ?, ?)", (seq, effect, subject, before, after)
            )
        return Intent(seq, effect, subject, before, after)

    def end(self, intent: Intent, ending: Ending = _SUCCESS) -> None:
        """Write down how an effect came out; where the disk takes nothing, with the next one.

        The effect is over: that its end cannot be written now is no reason to fail it.
        """
        self._waiting.append((intent, ending))
        self._write_waiting()

    @contextmanager
    def around(self, effect: Effect, subject: str, before: str, after: str) -> Generator[None]:
        """Write the intent before the block, and its end after it: a failure if it raised.

        What ends the process or cancels its task leaves the intent open, for the next start.

        Raises:
            StateError: The intent could not be written; the block did not begin.
        """
        intent = self.begin(effect, subject, before, after)
        try:
            yield
        except Exception as error:
            self.end(intent, Ending(is_success=False, reason=_reason(error)))
            raise
        self.end(intent)

    def open(self) -> tuple[Intent, ...]:
        """Return what was begun and has no end, oldest first.

        Raises:
            StateError: It could not be read.
        """
        with self._state.reading() as connection:
            rows = connection.execute(
                "SELECT seq, effect, subject, before, after FROM intent ORDER BY seq"
            ).fetchall()
        return tuple(Intent(seq, Effect(effect), *rest) for seq, effect, *rest in rows)

    def settle(self, found: Mapping[str, Callable[[str], str]]) -> None:
        """Write the ends that the process before this one did not; before any effect begins.

        Args:
            found: By kind of thing, what returns the state of one by its name, as in `Intent`.

        Raises:
            StateError: It could not be read how things are.
        """
        for intent in self.open():
            is_done = found[intent.kind](intent.name) == intent.after
            self.end(intent, _SUCCESS if is_done else Ending(is_success=False, reason=INTERRUPTED))

    def _write_waiting(self) -> None:
        with self._lock:
            while self._waiting:
                intent, ending = self._waiting[0]
                try:
                    with self._state.transaction() as connection:
                        self._end(connection, intent, ending)
                except StateError as error:
                    _LOG.error("how %s of %s ended waits: %s", intent.effect, intent.subject, error)
                    return
                self._waiting.pop(0)

    def _end(self, connection: sqlite3.Connection, intent: Intent, ending: Ending) -> None:
        removed = connection.execute("DELETE FROM intent WHERE seq = ?", (intent.seq,)).rowcount
        if removed:
            self._journal.write(
                connection,
                TAGS[intent.effect][1],
                intent.subject,
                {"intent": intent.seq},
                ending=ending,
                change=Change(intent.before, intent.after),
            )


def _reason(error: Exception) -> str:
    """Return the code of what stopped an execution, else what kind of error it was."""
    return str(getattr(error, "code", "") or type(error).__name__)
