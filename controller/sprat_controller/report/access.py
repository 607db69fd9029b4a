"""Who held which role over what, since when, given by whom: out of the controller's log. Pure.

Roles and tokens that were given before the first record that is there cannot be seen. "Last seen"
is the last record that somebody caused: who only read leaves none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from sprat_proto.audit_events import Tag

from sprat_controller.report.record import Json, Record, cite, mapping, moment, text


@dataclass
class Given:
    """A binding of a role, or a token, from its first record to its last."""

    given: Record
    taken: Record | None = None
    said: str = ""  # what it is, of a role that a provider gave: `viewer over site = lyon`
    ends: str = ""  # when that ends by itself, as it was said last
    renewed: Record | None = None  # by what

    @property
    def until(self) -> str:
        """When it ended or will; empty: it goes on."""
        return self.taken.ts if self.taken else self.ends

    @property
    def end(self) -> datetime | None:
        """The same as a moment."""
        return moment(self.until)


@dataclass
class Access:
    """Follows the controller's log."""

    bindings: dict[str, Given] = field(default_factory=dict[str, Given])
    # Of roles that a provider gave, ended or not renewed, and gave again.
    past: list[tuple[str, Given]] = field(default_factory=list[tuple[str, Given]])
    tokens: dict[str, Given] = field(default_factory=dict[str, Given])
    _state: dict[str, Record] = field(default_factory=dict[str, Record])  # of a subject
    _last: dict[str, Record] = field(default_factory=dict[str, Record])  # of an actor
    _used: dict[str, Record] = field(default_factory=dict[str, Record])  # of a token or session

    def take(self, record: Record) -> None:
        """Look at the next record."""
        self._last[record.actor] = record
        session = mapping(record.body.get("actor")).get("session")
        if isinstance(session, str):
            self._used[session] = record
        match record.tag:
            case Tag.ROLE_GRANTED:
                self.bindings[record.said("binding")] = Given(record)
            case Tag.ROLE_TAKEN if record.said("binding") in self.bindings:
                self.bindings[record.said("binding")].taken = record
            case Tag.TOKEN_CREATED:
                expires = text(mapping(record.detail.get("after")).get("expires_at"))
                self.tokens[record.about("token")] = Given(record, ends=expires)
            case Tag.TOKEN_REVOKED if record.about("token") in self.tokens:
                self.tokens[record.about("token")].taken = record
            case Tag.ROLES_PROVIDED:
                self._provided(record)
            case Tag.USER_DISABLED | Tag.USER_ENABLED:
                self._state[record.about("subject")] = record
            case _:
                pass

    def _provided(self, record: Record) -> None:
        """Take what a sign-in by an identity provider gave and took away."""
        before, after = (_texts(record.detail.get(name)) for name in ("before", "after"))
        ends = record.said("until")
        for said in before:
            held = self.bindings.get(f"{record.subject} {said}")
            if held is not None and said not in after:
                held.taken = record
            elif held is not None:
                held.ends, held.renewed = ends, record
        for said in after:
            if said not in before:
                key = f"{record.subject} {said}"
                if key in self.bindings:
                    self.past.append((key, self.bindings[key]))
                self.bindings[key] = Given(record, said=said, ends=ends)

    def roles(self) -> Iterable[tuple[Given, Json]]:
        """Yield each binding and the statement about it."""
        for binding, one in (*self.past, *self.bindings.items()):
            subject, after = one.given.about("subject"), _what(one)
            state, last = self._state.get(subject), self._last.get(subject)
            is_disabled = state is not None and state.tag == Tag.USER_DISABLED
            yield (
                one,
                {
                    "records": cite(one.given, one.renewed, one.taken, state, last),
                    "subject": subject,
                    "role": str(after.get("role", "")),
                    "scope": str(after.get("scope", "")),
                    "since": one.given.ts,
                    "given_by": one.given.actor,
                    "until": one.until,
                    "taken_by": one.taken.actor if one.taken else "",
                    "disabled_at": state.ts if state is not None and is_disabled else "",
                    "last_seen_at": last.ts if last else "",
                    "binding": binding,
                },
            )

    def every_token(self) -> Iterable[tuple[Given, Json]]:
        """Yield each token and the statement about it."""
        for token, one in self.tokens.items():
            after, last = mapping(one.given.detail.get("after")), self._used.get(token)
            yield (
                one,
                {
                    "records": cite(one.given, one.taken, last),
                    "token": token,
                    "owner": str(after.get("owner", "")),
                    "name": str(after.get("name", "")),
                    "role": str(after.get("role", "")),
                    "scope": str(after.get("scope", "")),
                    "since": one.given.ts,
                    "given_by": one.given.actor,
                    "expires_at": str(after.get("expires_at") or ""),
                    "until": one.taken.ts if one.taken else "",
                    "taken_by": one.taken.actor if one.taken else "",
                    "last_seen_at": last.ts if last else "",
                },
            )


def _what(one: Given) -> Json:
    """Return role and scope of a binding."""
    if not one.said:
        return mapping(one.given.detail.get("after"))
    role, _, scope = one.said.partition(" over ")
    return {"role": role, "scope": "" if scope == "everything" else scope}


def _texts(value: object) -> list[str]:
    listed = cast("list[object]", value) if isinstance(value, list) else []
    return [one for one in listed if isinstance(one, str)]
