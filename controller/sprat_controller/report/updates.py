"""How releases reached devices: published, assigned, verified there, in use there. Pure.

Of each execution the controller's log says which device and which rollout it is of, and what was
assigned for it; the device's own log says when it had verified the files, and when the alias stood
for them. How long a device was behind is from the publication of the release until then; where it
never came to that, until the report was made, or its period ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sprat_proto.audit_events import Tag

from sprat_controller.report.record import Json, Record, cite, items, mapping, seconds, text
from sprat_controller.rollout.attempts import execution_of, is_way_back

_VERIFIED: Final = "WAITING_WINDOW"  # what follows VERIFYING
_ACTIVE: Final = "SUCCEEDED"
_EXECUTIONS: Final = frozenset(
    {
        *(Tag.EXECUTION_DECIDED, Tag.EXECUTION_REPLANNED),
        *(Tag.EXECUTION_CHANGED, Tag.EXECUTION_REPORTED_LATE),
    }
)


@dataclass(frozen=True)
class Variant:
    """A variant of a release, and the record of its publication."""

    release: str  # model@release
    variant: str
    publisher: str
    published: Record

    @property
    def name(self) -> str:
        """As devices name it."""
        return f"{self.release}+{self.variant}"


@dataclass
class Releases:
    """What was published, by the digest of the manifest."""

    variants: dict[str, Variant] = field(default_factory=dict[str, Variant])
    retired: dict[str, Record] = field(default_factory=dict[str, Record])

    def take(self, record: Record) -> None:
        """Look at the next record of the controller's log."""
        release = record.about("release")
        if record.tag == Tag.RELEASE_PUBLISHED:
            for variant, digest in mapping(record.detail.get("variants")).items():
                made = Variant(release, variant, record.said("publisher"), record)
                self.variants.setdefault(str(digest), made)
        elif record.tag == Tag.RELEASE_RETIRED:
            self.retired[release] = record

    def name(self, digest: str) -> str:
        """Return the name of a variant; empty: its publication is not in the log."""
        found = self.variants.get(digest)
        return found.name if found else ""


@dataclass
class Assigned:
    """What an assignment of a device says of one alias."""

    record: Record
    alias: str
    digest: str


@dataclass
class Update:
    """An execution, as both logs have it."""

    execution: str
    controller: list[Record] = field(default_factory=list[Record])
    assigned: list[Assigned] = field(default_factory=list[Assigned])
    verified: Record | None = None
    active: Record | None = None

    @property
    def rollout(self) -> str:
        """Which it is of."""
        return self.controller[0].said("rollout")

    @property
    def device(self) -> str:
        """Whose it is."""
        return self.controller[0].said("device")


@dataclass
class Updates:
    """Follows the controller's log, and then those of devices."""

    found: dict[str, Update] = field(default_factory=dict[str, Update])
    # By device and the name by which it knows an execution: the first assignment that has it.
    assigned: dict[tuple[str, str], Assigned] = field(
        default_factory=dict[tuple[str, str], Assigned]
    )

    def take(self, record: Record) -> None:
        """Look at the next record of the controller's log."""
        if record.tag in _EXECUTIONS:
            self._of(record.about("execution")).controller.append(record)
        elif record.tag == Tag.ASSIGNMENT_ISSUED:
            for model in items(record.detail.get("models")):
                name = text(model.get("execution"))
                key = (record.about("device"), name)
                if name and key not in self.assigned:
                    made = Assigned(record, text(model.get("alias")), text(model.get("digest")))
                    self.assigned[key] = made
                    self._of(execution_of(name)).assigned.append(made)

    def take_of_device(self, device: str, record: Record) -> None:
        """Look at the next record of a device's log."""
        if record.tag != Tag.EXECUTION_ENTERED:
            return
        name = record.about("execution")
        update = self.found.get(execution_of(name))
        # A device has a say about what it was itself assigned only.
        if update is None or not update.controller or update.device != device:
            return
        if record.said("phase") == _VERIFIED and update.verified is None:
            update.verified = record
        if record.said("phase") == _ACTIVE and not is_way_back(name):
            update.active = update.active or record

    def rollout_of(self, name: str) -> str:
        """Return the rollout that an execution is of, by a device's name of it; empty: unknown."""
        update = self.found.get(execution_of(name))
        return update.rollout if update is not None and update.controller else ""

    def every(self) -> Iterable[Update]:
        """Return those whose own records are there, in order of beginning."""
        return sorted(
            (one for one in self.found.values() if one.controller),
            key=lambda one: one.controller[0].seq,
        )

    def _of(self, execution: str) -> Update:
        return self.found.setdefault(execution, Update(execution))


def statement(update: Update, releases: Releases, end: datetime) -> Json:
    """Return the statement about an update.

    Args:
        update: The execution.
        releases: What was published.
        end: Until when a device counts as behind that never came to it.
    """
    digest = _digest(update)
    published = releases.variants.get(digest)
    last, first = update.controller[-1], update.assigned[0].record if update.assigned else None
    moved = [one for one in update.controller if one.body.get("after")]
    reason = mapping(last.detail.get("reason"))
    until = update.active.at if update.active else end
    behind = seconds(published.published.at, until) if published else None
    return {
        "records": cite(
            *update.controller,
            *(one.record for one in update.assigned),
            *(update.verified, update.active),
            published.published if published else None,
        ),
        "execution": update.execution,
        "rollout": update.rollout,
        "device": update.device,
        "digest": digest,
        "model": published.name if published else "",
        "publisher": published.publisher if published else "",
        "published_at": published.published.ts if published else "",
        "assigned_at": first.ts if first else "",
        "verified_at": update.verified.ts if update.verified else "",
        "active_at": update.active.ts if update.active else "",
        "state": str(moved[-1].body["after"]) if moved else "",
        "reason": text(reason.get("code")),
        **({} if behind is None else {"behind_s": max(behind, 0)}),
        "is_behind": update.active is None,
    }


def _digest(update: Update) -> str:
    """Return what it brought, or was to bring last."""
    if update.active is not None:
        return update.active.said("digest")
    return update.assigned[-1].digest if update.assigned else ""
