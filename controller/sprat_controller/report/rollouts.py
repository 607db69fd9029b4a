"""Who asked for which rollout, who approved it, and how it went, out of the controller's log. Pure.

An approval is independent if the approver is another person than who created the rollout and than
everybody who had edited it by then; a service is the person that it acts for. What the signature is
of, and that it is the key's, is looked at by `signatures`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sprat_proto import canonical
from sprat_proto.audit_events import Tag

from sprat_controller.report.record import Json, Record, cite, mapping

_PREFIX: Final = "operator:rollout:"


@dataclass
class Persons:
    """Whom services act for."""

    made: dict[str, Record] = field(default_factory=dict[str, Record])  # by subject

    def take(self, record: Record) -> None:
        """Look at the next record."""
        if record.tag == Tag.USER_CREATED:
            self.made[record.about("subject")] = record

    def of(self, actor: str) -> str:
        """Return the person who an actor is, or acts for."""
        owner = mapping(self.made[actor].detail.get("after")) if actor in self.made else {}
        return str(owner.get("owner") or actor)


@dataclass(frozen=True)
class Approval:
    """An approval, and what stood then of the rollout."""

    given: Record
    created: Record | None
    edits: tuple[Record, ...]


@dataclass
class Story:
    """All records of one rollout, in order."""

    id: str
    records: list[Record] = field(default_factory=list[Record])
    executions: dict[str, Record] = field(default_factory=dict[str, Record])  # the last of each

    @property
    def created(self) -> Record | None:
        """Who asked for it."""
        return next((one for one in self.records if one.tag == Tag.ROLLOUT_CREATED), None)

    def approvals(self) -> list[Approval]:
        """Return what was approved, in order."""
        edits: list[Record] = []
        found: list[Approval] = []
        for one in self.records:
            if one.tag == Tag.ROLLOUT_EDITED:
                edits.append(one)
            elif one.tag == Tag.ROLLOUT_APPROVED:
                found.append(Approval(one, self.created, tuple(edits)))
        return found


@dataclass
class Rollouts:
    """Follows the controller's log."""

    stories: dict[str, Story] = field(default_factory=dict[str, Story])

    def take(self, record: Record) -> None:
        """Look at the next record."""
        rollout = record.about("rollout")
        if rollout:
            self._story(rollout).records.append(record)
        elif record.about("execution") and record.said("rollout"):
            self._story(record.said("rollout")).executions[record.about("execution")] = record

    def _story(self, rollout: str) -> Story:
        return self.stories.setdefault(rollout, Story(rollout))


def rollout(story: Story) -> Json:
    """Return the statement about a rollout."""
    created = story.created
    detail = created.detail if created else {}
    strategy = detail.get("strategy")
    # Of its state, and not of its approvals, groups or strategy.
    moves = [one for one in story.records if one.said("to") and "group" not in one.detail]
    last = moves[-1] if moves else created
    outcomes: dict[str, int] = {}
    for one in story.executions.values():
        state = str(one.body.get("after", ""))
        outcomes[state] = outcomes.get(state, 0) + 1
    return {
        "records": cite(*story.records, *story.executions.values()),
        "rollout": story.id,
        "release": str(detail.get("release", "")),
        "alias": str(detail.get("alias", "")),
        "author": created.actor if created else "",
        "created_at": created.ts if created else "",
        "strategy_sha256": canonical.sha256_hex(canonical.encode(strategy)) if strategy else "",
        "approvals": len(story.approvals()),
        "state": last.said("to") or str(last.body.get("after", "")) if last else "",
        "state_at": last.ts if last else "",
        "outcomes": outcomes,
    }


def approval(story: Story, one: Approval, persons: Persons, signature: str) -> Json:
    """Return the statement about an approval.

    Args:
        story: The rollout's.
        one: Which of its approvals.
        persons: Whom services act for.
        signature: What was found of its signature, in words.
    """
    authors = [record.actor for record in (one.created, *one.edits) if record is not None]
    people = {persons.of(author) for author in authors}
    made = [persons.made.get(actor) for actor in (*authors, one.given.actor)]
    return {
        "records": cite(one.given, one.created, *one.edits, *made),
        "rollout": story.id,
        "author": authors[0] if one.created is not None else "",
        "edited_by": [record.actor for record in one.edits],
        "approver": one.given.actor,
        "at": one.given.ts,
        "spec_sha256": one.given.said("spec"),
        "key": one.given.said("key"),
        "signature": signature,
        "independent": one.created is not None and persons.of(one.given.actor) not in people,
    }
