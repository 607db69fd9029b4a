"""Who held which role when, by the log alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sprat_controller.report.access import Access
from sprat_controller.report.compose import Attached, Composer, Question
from sprat_controller.report.frameworks import Framework
from sprat_controller.report.logs import Proof
from sprat_controller.report.record import CONTROLLER, Record
from sprat_proto.audit_events import Tag

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
VIEWER, OPERATOR = "viewer over everything", "operator over site = lyon"


class Told:
    """A controller's log."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._seq = count(1)

    def tell(self, tag: Tag, subject: str, detail: dict[str, Any], **more: Any) -> Record:
        body = {
            "ts": more.pop("at", NOW).isoformat(),
            "actor": {"type": "user", "id": more.pop("by", "root")},
            "tag": tag.value,
            "subject": subject,
            "detail": detail,
            **more,
        }
        self.records.append(Record(CONTROLLER, next(self._seq), body))
        return self.records[-1]

    def provide(self, before: list[str], after: list[str], at: datetime, hours: int = 1) -> Record:
        until = {"until": (at + hours * HOUR).isoformat()} if after else {}
        detail = {"before": before, "after": after, **until}
        return self.tell(Tag.ROLES_PROVIDED, "subject/user:oidc-1", detail, at=at)

    def roles(self) -> list[dict[str, Any]]:
        access = Access()
        for record in self.records:
            access.take(record)
        return [row for _, row in access.roles()]

    def table(self, name: str, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return a table of a report of a period."""
        composer = Composer(Question(Framework.ISO_27001, NOW + 99 * HOUR, since, until))
        composer.begin(Proof(CONTROLLER, "e", "o", "k", 1, "", ()))
        for record in self.records:
            composer.take(record)
        report = composer.finish([], Attached())
        return report["tables"][name]["statements"]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_role_that_somebody_gave_and_took(told: Told) -> None:
    after = {"role": "viewer", "scope": "site = lyon"}
    given = told.tell(Tag.ROLE_GRANTED, "subject/user:ann", {"binding": "b-1", "after": after})
    taken = told.tell(
        Tag.ROLE_TAKEN, "subject/user:ann", {"binding": "b-1", "before": after}, at=NOW + HOUR
    )
    (row,) = told.roles()
    assert (row["subject"], row["role"], row["scope"]) == ("user:ann", "viewer", "site = lyon")
    assert (row["since"], row["until"]) == (given.ts, taken.ts)
    assert (row["given_by"], row["taken_by"]) == ("user:root", "user:root")
    assert row["records"] == {CONTROLLER: [1, 2]}


def test_a_role_by_a_provider_ends_when_it_was_said_to(told: Told) -> None:
    given = told.provide([], [VIEWER, OPERATOR], NOW)
    first, second = told.roles()
    assert (first["role"], first["scope"]) == ("viewer", "")
    assert (second["role"], second["scope"]) == ("operator", "site = lyon")
    assert {one["until"] for one in (first, second)} == {(NOW + HOUR).isoformat()}
    assert {one["since"] for one in (first, second)} == {given.ts}


def test_a_role_by_a_provider_that_is_held_on_goes_on(told: Told) -> None:
    given = told.provide([], [VIEWER], NOW, hours=8)
    told.provide([VIEWER], [VIEWER], NOW + HOUR, hours=8)
    (row,) = told.roles()
    assert (row["since"], row["until"]) == (given.ts, (NOW + 9 * HOUR).isoformat())
    assert row["records"] == {CONTROLLER: [1, 2]}


def test_a_role_by_a_provider_that_lapsed_and_was_given_again_is_told_twice(told: Told) -> None:
    for day in (0, 5):
        told.provide([], [VIEWER], NOW + timedelta(days=day))
    told.provide([VIEWER], [], NOW + timedelta(days=5, minutes=10))
    first, second = told.roles()
    assert first["until"] == (NOW + HOUR).isoformat()
    assert first["taken_by"] == ""
    assert second["since"] == (NOW + timedelta(days=5)).isoformat()
    assert second["until"] == (NOW + timedelta(days=5, minutes=10)).isoformat()
    assert second["taken_by"] == "user:root"


@pytest.mark.parametrize(
    ("since_h", "until_h", "is_there"),
    [(-2, 0, False), (-2, 1, True), (0, 9, True), (1, 9, True), (2, 9, False)],
)
def test_only_what_was_held_in_the_period_is_told(
    told: Told, since_h: int, until_h: int, *, is_there: bool
) -> None:
    told.provide([], [VIEWER], NOW)
    after = {"owner": "user:ann", "role": "viewer", "expires_at": (NOW + HOUR).isoformat()}
    told.tell(Tag.TOKEN_CREATED, "token/t-1", {"after": after})
    for table in ("access", "tokens"):
        rows = told.table(table, NOW + since_h * HOUR, NOW + until_h * HOUR)
        assert len(rows) == is_there, table


def test_nothing_that_a_log_says_is_a_fault(told: Told) -> None:
    for detail in ({}, {"before": "x", "after": 7}, {"after": [1, None, "viewer"], "until": []}):
        told.tell(Tag.ROLES_PROVIDED, "subject/user:oidc-1", detail)
        told.tell(Tag.ROLE_TAKEN, "subject/user:ann", detail)
    assert [one["role"] for one in told.roles()] == ["viewer"]
