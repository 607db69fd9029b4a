"""A target filter asked of the database: what `target_filter.matches` says, for all at once.

Each test is true or false, never NULL: else `not` would leave out what is not known. Texts are
compared as they are, on PostgreSQL (LIKE) and on SQLite (GLOB: its LIKE takes a for A).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import sqlalchemy as sql
from sqlmodel import Session, col

from sprat_controller.fleet.filters.fields import ABILITIES, FIELDS, Facts, Field, Kind
from sprat_controller.fleet.filters.tree import (
    And,
    Compared,
    Exists,
    Has,
    Is,
    Matches,
    Not,
    Op,
    Or,
    Pattern,
    Tree,
)
from sprat_controller.store.tables import Device, DeviceLabel, EnrolmentToken

_DEVICE: Final = Device.metadata.tables["device"].c
# Fields that are columns, by name; all others are in the profile.
_COLUMNS: Final[Mapping[str, sql.Column[Any]]] = {
    "device": _DEVICE.id,
    **{
        name: _DEVICE[name]
        for name in (
            "state",
            "group",
            "hardware_class",
            "agent_version",
            "capability",
            "online",
            "simulated",
        )
    },
}
_TOKEN: Final = EnrolmentToken.metadata.tables["enrolment_token"].c
# What an enrolment token says of its devices beside their labels, by field.
_TO_BE: Final[Mapping[str, sql.Column[Any]]] = {"device": _TOKEN.device_id, "group": _TOKEN.group}
_IN_PROFILE: Final[Mapping[str, str]] = {
    "memory": "memory_bytes",
    "memory_budget": "memory_budget_bytes",
    "disk_free": "disk_free_bytes",
}
_GLOB_SIGNS: Final = re.compile(r"([*?\[])")
_LIKE_SIGNS: Final = re.compile(r"([%_\\])")
_NUMBER: Final = sql.Numeric(20, 0)  # all of 64 bits

Condition = sql.ColumnElement[bool]


def where(session: Session, tree: Tree) -> Condition:
    """Return the condition on rows of `Device` that is true where `matches` is.

    Args:
        session: Its database says how texts and JSON are asked.
        tree: The filter.
    """
    return _Asked(_is_sqlite(session)).condition(tree)


def where_to_be(session: Session, tree: Tree) -> Condition:
    """Return the condition on rows of `EnrolmentToken` that is true where `matches` will be.

    Args:
        session: Its database says how texts and JSON are asked.
        tree: The filter; it asks names, groups and labels only: no more is known beforehand.
    """
    return _AskedBefore(_is_sqlite(session)).condition(tree)


def elements(session: Session, array: Any, *, as_text: bool = False) -> sql.TableValuedAlias:
    """Return the rows of an array in JSON, one column `value`.

    Args:
        session: Its database says how JSON is asked.
        array: A column.
        as_text: They are texts, and no arrays themselves.
    """
    return _elements(array, is_sqlite=_is_sqlite(session), as_text=as_text)


def facts(session: Session, which: Condition) -> list[Facts]:
    """Return what filters can ask of the devices that meet a condition, in order of name."""
    names = [name for name in _COLUMNS if name != "device"]
    columns: list[Any] = [_DEVICE.id, _DEVICE.profile, *(_COLUMNS[name] for name in names)]
    asked: Any = sql.select(*columns).where(which).order_by(_DEVICE.id)
    rows = cast("list[tuple[Any, ...]]", session.connection().execute(asked).all())
    labels = _labels(session, which)
    return [
        _facts(row[0], row[1], labels.get(row[0], {}), dict(zip(names, row[2:], strict=True)))
        for row in rows
    ]


class _Asked:
    """Conditions in the tongue of one database."""

    def __init__(self, is_sqlite: bool) -> None:  # noqa: FBT001 - there are two, this is which
        self._is_sqlite = is_sqlite

    def condition(self, tree: Tree) -> Condition:  # noqa: PLR0911 - a row for each kind of node
        """Return what is true where the filter is."""
        match tree:
            case And(terms):
                return sql.and_(sql.true(), *(self.condition(term) for term in terms))
            case Or(terms):
                return sql.or_(sql.false(), *(self.condition(term) for term in _at_once(terms)))
            case Not(term):
                return sql.not_(self.condition(term))
            case Matches(field, patterns):
                return self._matches(field, patterns)
            case Compared(field, op, number):
                known = self._number(field)
                return sql.and_(known.is_not(None), _compared(known, op, number))
            case Exists(field):
                return self._exists(field)
            case Has(pattern):
                return sql.or_(*(self._matches(FIELDS[name], (pattern,)) for name in ABILITIES))
            case Is(field):
                return _COLUMNS[field.name].is_(sql.true())

    def _matches(self, field: Field, patterns: tuple[Pattern, ...]) -> Condition:
        if field.kind is Kind.LABEL:
            value: sql.ColumnElement[Any] = sql.type_coerce(col(DeviceLabel.value), sql.String())
            return _labelled(field, sql.and_(value != "", self._like(value, patterns)))
        if field.kind is Kind.SET:
            names = self._names(field)
            like = sql.and_(names.c.value != "", self._like(names.c.value, patterns))
            return sql.exists(sql.select(sql.literal(1)).select_from(names).where(like))
        text = self._text(field)
        return sql.and_(text.is_not(None), text != "", self._like(text, patterns))

    def _exists(self, field: Field) -> Condition:
        if field.is_number:
            return self._number(field).is_not(None)
        return self._matches(field, (Pattern(("", "")),))

    def _like(self, text: sql.ColumnElement[Any], patterns: tuple[Pattern, ...]) -> Condition:
        exact = [one.pieces[0] for one in patterns if len(one.pieces) == 1]
        found: list[Condition] = [text.in_(exact)] if exact else []
        for one in patterns:
            if len(one.pieces) == 1:
                continue
            if self._is_sqlite:
                glob = "*".join(_GLOB_SIGNS.sub(r"[\1]", piece) for piece in one.pieces)
                found.append(text.op("GLOB", is_comparison=True)(glob))
            else:
                like = "%".join(_LIKE_SIGNS.sub(r"\\\1", piece) for piece in one.pieces)
                found.append(text.like(like, escape="\\"))
        return sql.or_(*found)

    def _text(self, field: Field) -> sql.ColumnElement[Any]:
        column = _COLUMNS.get(field.name)
        return _DEVICE.profile[field.name].as_string() if column is None else column

    def _number(self, field: Field) -> sql.ColumnElement[Any]:
        column = _COLUMNS.get(field.name)
        if column is not None:
            return column
        stored = _DEVICE.profile[_IN_PROFILE.get(field.name, field.name)]
        # PostgreSQL's INTEGER has 31 bits.
        return stored.as_integer() if self._is_sqlite else sql.cast(stored.as_string(), _NUMBER)

    def _names(self, field: Field) -> sql.TableValuedAlias:
        """Return the rows of a list in the profile, one column `value`."""
        if self._is_sqlite:
            names = sql.func.json_each(_DEVICE.profile, f"$.{field.name}")
            return names.table_valued(sql.column("value", sql.String))
        return _elements(_DEVICE.profile[field.name], is_sqlite=False, as_text=True)


class _AskedBefore(_Asked):
    """The same of a device to come, by the enrolment token that it will show."""

    def _matches(self, field: Field, patterns: tuple[Pattern, ...]) -> Condition:
        if field.kind is Kind.LABEL:
            text: sql.ColumnElement[Any] = _TOKEN.labels[field.name].as_string()
        else:
            text = _TO_BE[field.name]
        return sql.and_(text.is_not(None), text != "", self._like(text, patterns))


def _at_once(terms: Sequence[Tree]) -> list[Tree]:
    """Return terms of an `or` with those that ask the same field put into one: it is one look-up.

    What somebody has may be put together of thousands of scopes, and SQLite takes no more than
    1,000 terms in one condition.
    """
    asked: dict[Field, dict[Pattern, None]] = {}
    for term in terms:
        if isinstance(term, Matches):
            asked.setdefault(term.field, {}).update(dict.fromkeys(term.patterns))
    others: list[Tree] = [term for term in terms if not isinstance(term, Matches)]
    return [*(Matches(field, tuple(patterns)) for field, patterns in asked.items()), *others]


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


def _elements(array: Any, *, is_sqlite: bool, as_text: bool) -> sql.TableValuedAlias:
    if is_sqlite:
        rows = sql.func.json_each(array)
    elif as_text:
        rows = sql.func.json_array_elements_text(array)
    else:
        rows = sql.func.json_array_elements(array)
    return rows.table_valued(sql.column("value", sql.String))


def _labelled(field: Field, value: Condition) -> Condition:
    labelled = sql.select(col(DeviceLabel.device_id)).where(
        col(DeviceLabel.key) == field.name, value
    )
    return _DEVICE.id.in_(labelled)


def _compared(known: sql.ColumnElement[Any], op: Op, number: int) -> Condition:
    match op:
        case Op.EQUAL:
            return known == number
        case Op.LESS:
            return known < number
        case Op.AT_MOST:
            return known <= number
        case Op.MORE:
            return known > number
        case Op.AT_LEAST:
            return known >= number


def _facts(
    device: str,
    profile: Mapping[str, Any] | None,
    labels: Mapping[str, str],
    columns: Mapping[str, Any],
) -> Facts:
    told = profile or {}
    return Facts(
        device=device,
        labels=labels,
        state=columns["state"],
        group=columns["group"],
        hardware_class=columns["hardware_class"] or "",
        agent_version=columns["agent_version"],
        capability=columns["capability"],
        online=columns["online"],
        simulated=columns["simulated"],
        arch=told.get("arch", ""),
        os=told.get("os", ""),
        processor=told.get("processor", ""),
        power=told.get("power", ""),
        cores=told.get("cores"),
        memory=told.get("memory_bytes"),
        memory_budget=told.get("memory_budget_bytes"),
        disk_free=told.get("disk_free_bytes"),
        cpu_features=tuple(told.get("cpu_features", ())),
        accelerators=tuple(told.get("accelerators", ())),
        runtimes=tuple(told.get("runtimes", ())),
    )


def _labels(session: Session, which: Condition) -> dict[str, dict[str, str]]:
    rows = session.connection().execute(
        sql.select(col(DeviceLabel.device_id), col(DeviceLabel.key), col(DeviceLabel.value)).where(
            col(DeviceLabel.device_id).in_(sql.select(_DEVICE.id).where(which))
        )
    )
    found: dict[str, dict[str, str]] = {}
    for device, key, value in rows:
        found.setdefault(device, {})[key] = value
    return found
