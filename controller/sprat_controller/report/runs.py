"""Which model answered on a device under which alias, from when until when: its own word. Pure.

A run begins with the record by which the device says that the alias stands for a model (the
execution SUCCEEDED, or it went back to the one before) and ends with the record by which that
is over. A trial is a model that soaked and was not kept. Hours in which the agent was stopped are
not taken out: `loads` says when a model was in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from sprat_proto.audit_events import Tag

from sprat_controller.report.record import Record

COMMITTED: Final = "committed"
TRIAL: Final = "trial"
_SOAKING: Final = "SOAKING"
_SUCCEEDED: Final = "SUCCEEDED"
_OVER: Final = frozenset({"ROLLED_BACK", "FAILED", "CANCELED", "REJECTED"})


@dataclass(frozen=True)
class Run:
    """A stretch of time.

    Attributes:
        alias: What applications asked for.
        digest: Of the manifest of what answered.
        kind: COMMITTED or TRIAL.
        execution: Which execution brought it, by the device's name of it; empty: none did.
        began: The record of its beginning.
        ended: The record of its end; None: it goes on.
        why: What ended it: a tag, or the phase that the execution came to.
    """

    alias: str
    digest: str
    kind: str
    execution: str
    began: Record
    ended: Record | None = None
    why: str = ""


@dataclass
class Runs:
    """Follows the log of one device."""

    over: list[Run] = field(default_factory=list[Run])
    _now: dict[str, Run] = field(default_factory=dict[str, Run])  # by alias
    _tried: dict[str, Run] = field(default_factory=dict[str, Run])  # by execution

    def take(self, record: Record) -> None:
        """Look at the next record."""
        match record.tag:
            case Tag.EXECUTION_ENTERED:
                self._entered(record)
            case Tag.ALIAS_RETURNED:
                self._begin(record, record.about("alias"), record.said("to"), "")
            case Tag.ALIAS_FORGOTTEN:
                self._end(record, record.about("alias"), record.tag)
            case Tag.MODEL_ENDED:
                self._end(record, record.said("alias"), record.tag)
            case _:
                pass

    def all(self) -> list[Run]:
        """Return all runs, by the record with which they began."""
        found = [*self.over, *self._now.values(), *self._tried.values()]
        return sorted(found, key=lambda run: (run.began.seq, run.alias))

    def _entered(self, record: Record) -> None:
        execution, phase = record.about("execution"), record.said("phase")
        alias, digest = record.said("alias"), record.said("digest")
        if phase == _SOAKING:
            self._tried[execution] = Run(alias, digest, TRIAL, execution, record)
        elif phase == _SUCCEEDED:
            self._tried.pop(execution, None)
            self._begin(record, alias, digest, execution)
        elif phase in _OVER and execution in self._tried:
            run = self._tried.pop(execution)
            self.over.append(replace(run, ended=record, why=phase))

    def _begin(self, record: Record, alias: str, digest: str, execution: str) -> None:
        now = self._now.get(alias)
        if now is not None and now.digest == digest:
            return
        self._end(record, alias, record.tag)
        self._now[alias] = Run(alias, digest, COMMITTED, execution, record)

    def _end(self, record: Record, alias: str, why: str) -> None:
        run = self._now.pop(alias, None)
        if run is not None:
            self.over.append(replace(run, ended=record, why=why))
