"""A report out of the records of logs: every statement names those that it rests on. Pure.

    {"sprat_report": 1, "framework", "title", "made_at", "since", "until", "wanted", "note",
     "clauses": [{"clause", "about", "tables", "statements"}],
     "lists": {NAME: [TAG]}, "files": {NAME: SHA256},
     "tables": {NAME: {"title", "about", "statements": [{"records": {LOG: [SEQ, …]}, …}]}}}

`lists` says of which tags the tables are that list records; what ends with `:` stands for all tags
that begin so.

What is said can be said again by anybody who has the same records: nothing else goes into it but
the manifests and signed approvals that records name by digest or key, and the table `last_used`,
which is the controller's word alone and rests on no record.

The period is from `since` on and before `until`; empty: without that end. What stands in a table
one by one was written in it; runs, updates, roles and tokens are there if they overlap with it.
Logs are followed from their first record, so that what began before the period is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sprat_proto.audit_events import Tag

from sprat_controller.report import access, events, logs, models, rollouts, signatures, updates
from sprat_controller.report.frameworks import STANDARDS, Framework
from sprat_controller.report.record import (
    CONTROLLER,
    Expired,
    Json,
    Record,
    about_one,
    cite,
    items,
    moment,
)
from sprat_controller.report.runs import Run, Runs
from sprat_controller.report.usage import Usage

VERSION: Final = 1
# A page of more is read by nobody, and the report is put together in memory.
MOST_STATEMENTS: Final = 200_000
NOTE: Final = (
    "This report gives evidence. Whether that is enough for a clause is for its reader to judge."
)
# Tables that are put together, beside those of `events.TABLES`: title, and what they show.
COMPOSED: Final[Mapping[str, tuple[str, str]]] = {
    "logs": (
        "Logs",
        (
            "The logs that all else rests on: how many records each has, from when until when, who"
            " signed it, and how far devices trusted their clocks. A log that is not bound to a key"
            " is the device's only as the controller says."
        ),
    ),
    "runs": (
        "Which model ran where",
        "By the devices' own sealed records, and beside it what the controller had assigned.",
    ),
    "models": (
        "Models",
        (
            "Licence and evaluation are out of the manifest that the publisher signed; whose"
            " signatures were verified is the devices' word."
        ),
    ),
    "usage": ("Use", "How often applications asked, by the hour: the devices' own word."),
    "updates": (
        "Updates",
        (
            "From publication to use on each device. A device is behind until the alias stands for"
            " the release; what never came to that counts until the end of the report."
        ),
    ),
    "rollouts": ("Rollouts", "Who asked for what, and how it went."),
    "approvals": (
        "Approvals",
        "Independent: the approver is another person than the author and every editor.",
    ),
    "access": (
        "Who may do what",
        (
            "Each role that somebody had in the period, over what, since when, given by whom. Last"
            " seen is the last record that they caused; who only reads leaves none."
        ),
    ),
    "tokens": ("Tokens", "Each token that was good in the period."),
    "last_used": (
        "Last use",
        "The controller's word alone, out of its database: no record proves it.",
    ),
}
TABLES: Final[Mapping[str, tuple[str, str]]] = {
    **COMPOSED,
    **{name: (one.title, one.about) for name, one in events.TABLES.items()},
}


class TooLargeError(ValueError):
    """There is more to say than a report holds; one sentence."""


@dataclass(frozen=True)
class Question:
    """What is asked for.

    Attributes:
        framework: By whose words.
        made_at: Now.
        since: From then on; None: from the beginning.
        until: Not any more; None: until now.
        wanted: What else narrows it, by name: what the part of the log is of.
    """

    framework: Framework
    made_at: datetime
    since: datetime | None = None
    until: datetime | None = None
    wanted: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def end(self) -> datetime:
        """Until when it is told."""
        return min(self.until, self.made_at) if self.until else self.made_at

    def has(self, at: datetime | None) -> bool:
        """Tell whether a moment is in the period; one that is not known may be."""
        return at is None or (
            (self.since is None or self.since <= at) and (self.until is None or at < self.until)
        )

    def overlaps(self, begin: datetime | None, end: datetime | None) -> bool:
        """Tell whether something was in the period; `end` None: it goes on."""
        is_before = self.since is not None and end is not None and end < self.since
        is_after = self.until is not None and begin is not None and begin >= self.until
        return not is_before and not is_after


@dataclass(frozen=True)
class Attached:
    """What records name, and is kept elsewhere.

    Attributes:
        manifests: By digest.
        kept: Envelopes of approvals.
        approvers: Public keys by key id, PEM.
        last_used: Statements of that table; None: the asker may not see it.
    """

    manifests: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    kept: Sequence[signatures.Kept] = ()
    approvers: Mapping[str, str] = field(default_factory=dict[str, str])
    last_used: Sequence[Json] | None = None


class Composer:
    """Takes the controller's log first, then those of devices; then the report."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._logs: dict[str, logs.Log] = {}
        self._missing: dict[str, str] = {}
        self._enrolled: dict[str, Record] = {}
        self._releases = updates.Releases()
        self._updates = updates.Updates()
        self._rollouts = rollouts.Rollouts()
        self._persons = rollouts.Persons()
        self._access = access.Access()
        self._usage = Usage()
        self._runs: dict[str, Runs] = {}
        self._signers: dict[str, dict[str, Record]] = {}  # by digest
        self._assigned: set[str] = set()
        self._events: dict[str, list[Json]] = {}
        self._count = 0
        self._tables = STANDARDS[question.framework].tables

    def begin(self, proof: logs.Proof) -> None:
        """Begin with a log, whole or a part: its records follow in order."""
        self._logs[proof.log] = logs.Log(proof)

    def take(self, record: Record | Expired) -> None:
        """Take the next record of a log that was begun."""
        self._logs[record.log].take(record)
        if isinstance(record, Expired):
            return
        if record.log == CONTROLLER:
            self._take_of_controller(record)
        else:
            self._take_of_device(record.log, record)
        self._list(record)

    def is_at_fault(self, log: str, why: str) -> None:
        """Say of a log that it is not what was signed: one sentence."""
        self._logs[log].fault = why

    def lacks(self, device: str, why: str) -> None:
        """Say why there is no log of a device: one sentence."""
        self._missing[device] = why

    def rollouts_seen(self) -> list[str]:
        """Return the ids of the rollouts that something was said of."""
        return list(self._rollouts.stories)

    def digests(self) -> list[str]:
        """Return which manifests there is something to say of."""
        ran = {run.digest for runs in self._runs.values() for run in runs.all()}
        loaded = set(self._signers)
        return sorted(one for one in ran | loaded | self._assigned if one)

    def finish(self, devices: Sequence[str], attached: Attached) -> Json:
        """Return the report.

        Args:
            devices: All that it is about, with a log or without.
            attached: What records name.

        Raises:
            TooLargeError: There is too much to say.
        """
        made = self._composed(devices, attached)
        tables = {
            name: {"title": TABLES[name][0], "about": TABLES[name][1], "statements": rows}
            for name in TABLES
            if name in self._tables
            for rows in [made[name] if name in made else self._events.get(name, [])]
        }
        self._check(sum(len(one["statements"]) for one in tables.values()))
        asked, standard = self._question, STANDARDS[self._question.framework]
        return {
            "sprat_report": VERSION,
            "framework": asked.framework.value,
            "title": standard.title,
            "made_at": asked.made_at.isoformat(),
            "since": asked.since.isoformat() if asked.since else "",
            "until": asked.until.isoformat() if asked.until else "",
            "wanted": dict(asked.wanted),
            "note": NOTE,
            "clauses": [
                {
                    "clause": clause.number,
                    "about": clause.about,
                    "tables": list(clause.tables),
                    "statements": sum(len(tables[name]["statements"]) for name in clause.tables),
                }
                for clause in standard.clauses
            ],
            "lists": {name: list(one.tags) for name, one in events.TABLES.items()},
            "tables": tables,
        }

    def _take_of_controller(self, record: Record) -> None:
        if record.tag == Tag.DEVICE_ENROLLED:
            self._enrolled[record.about("device")] = record
        self._releases.take(record)
        self._updates.take(record)
        self._rollouts.take(record)
        self._persons.take(record)
        self._access.take(record)
        if record.tag == Tag.ASSIGNMENT_ISSUED and self._question.has(record.at):
            models_ = items(record.detail.get("models"))
            self._assigned.update(str(one.get("digest", "")) for one in models_)

    def _take_of_device(self, device: str, record: Record) -> None:
        self._runs.setdefault(device, Runs()).take(record)
        self._updates.take_of_device(device, record)
        if self._question.has(record.at):
            self._usage.take(device, record)
        if record.tag == Tag.MODEL_LOADED and record.said("signer"):
            signers = self._signers.setdefault(record.said("digest"), {})
            signers.setdefault(record.said("signer"), record)

    def _list(self, record: Record) -> None:
        if not self._question.has(record.at):
            return
        for name in self._tables:
            table = events.TABLES.get(name)
            if table is not None and table.takes(record.tag):
                self._events.setdefault(name, []).append(about_one(record))
                self._count += 1
                self._check(self._count)

    def _check(self, count: int) -> None:
        if count > MOST_STATEMENTS:
            raise TooLargeError(
                f"expected at most {MOST_STATEMENTS} statements in a report, found more: ask for a"
                " shorter period, or for fewer devices"
            )

    def _composed(self, devices: Sequence[str], attached: Attached) -> dict[str, list[Json]]:
        asked = self._question
        return {
            "logs": self._about_logs(devices),
            "runs": [
                self._run(device, run)
                for device in sorted(self._runs)
                for run in self._runs[device].all()
                if asked.overlaps(run.began.at, run.ended.at if run.ended else None)
            ],
            "models": [
                models.statement(
                    digest,
                    attached.manifests.get(digest),
                    self._releases,
                    self._signers.get(digest, {}),
                )
                for digest in self.digests()
            ],
            "usage": [one for hour, one in self._usage.statements() if asked.has(moment(hour))],
            "updates": [
                updates.statement(one, self._releases, asked.end)
                for one in self._updates.every()
                if asked.overlaps(one.controller[0].at, (one.active or one.controller[-1]).at)
            ],
            "rollouts": [
                rollouts.rollout(story)
                for story in self._rollouts.stories.values()
                if any(asked.has(one.at) for one in (*story.records, *story.executions.values()))
            ],
            "approvals": self._approvals(attached),
            "access": _within(asked, self._access.roles()),
            "tokens": _within(asked, self._access.every_token()),
            "last_used": list(attached.last_used or ()),
        }

    def _about_logs(self, devices: Sequence[str]) -> list[Json]:
        names = [CONTROLLER, *devices]
        return [
            self._logs[name].statement(self._enrolled.get(name))
            if name in self._logs
            else logs.missing(name, self._enrolled.get(name), self._missing.get(name, ""))
            for name in names
        ]

    def _run(self, device: str, run: Run) -> Json:
        assigned = self._updates.assigned.get((device, run.execution))
        if assigned is not None and (assigned.alias, assigned.digest) != (run.alias, run.digest):
            assigned = None
        published = self._releases.variants.get(run.digest)
        return {
            "records": cite(
                run.began,
                run.ended,
                assigned.record if assigned else None,
                published.published if published else None,
            ),
            "device": device,
            "alias": run.alias,
            "digest": run.digest,
            "model": self._releases.name(run.digest),
            "kind": run.kind,
            "from": run.began.ts,
            "until": run.ended.ts if run.ended else "",
            "ended_by": run.why,
            "execution": run.execution,
            "rollout": self._updates.rollout_of(run.execution) if assigned else "",
            "assigned_at": assigned.record.ts if assigned else "",
        }

    def _approvals(self, attached: Attached) -> list[Json]:
        kept = signatures.by_approval(attached.kept)
        return [
            rollouts.approval(
                story,
                one,
                self._persons,
                signatures.found(
                    one.given.said("key"),
                    one.given.said("spec"),
                    kept.get((story.id, one.given.actor)),
                    attached.approvers,
                ),
            )
            for story in self._rollouts.stories.values()
            for one in story.approvals()
            if self._question.has(one.given.at)
        ]


def _within(asked: Question, rows: Iterable[tuple[access.Given, Json]]) -> list[Json]:
    return [row for one, row in rows if asked.overlaps(one.given.at, one.end)]
