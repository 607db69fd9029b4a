"""Records as OCSF events of schema 1.6.0, as JSON. Pure.

`raw_data` is the whole record, `unmapped` what the class has no attribute for. Where a class
requires what a record does not say, the nearest thing that it does say stands there, and none is
made up: addresses are in no record, so the endpoint of an API activity is the name of its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sprat_controller.audit.views import ocsf_classes
from sprat_controller.audit.views.ocsf_classes import OTHER, SCHEMA, Class, ClassOf
from sprat_controller.audit.views.record import PRODUCT, Origin, Record, Severity, json_line

_SEVERITY: Final[Mapping[Severity, tuple[int, str]]] = {
    Severity.INFORMATIONAL: (1, "Informational"),
    Severity.WARNING: (3, "Medium"),
    Severity.ALARM: (4, "High"),
}
_STATUS: Final[Mapping[str, tuple[int, str]]] = {
    "success": (1, "Success"),
    "failure": (2, "Failure"),
    "denied": (2, "Failure"),
}
_UNKNOWN: Final = (0, "Unknown")
# Kinds of actors; whoever has another is Other.
_USER_TYPES: Final[Mapping[str, int]] = {
    "": 0,
    "unknown": 0,
    "user": 1,
    "system": 3,
    "service": 4,
    "token": 4,
}
# Kinds of managed entities, by what a record's subject begins with.
_ENTITY_TYPES: Final[Mapping[str, tuple[int, str]]] = {
    "device": (1, "Device"),
    "subject": (2, "User"),
    "role": (5, "Policy"),
}
_UNMAPPED: Final = ("scope", "before", "after", "authn", "request", "tsq")


def render(record: Record, origin: Origin) -> bytes:
    """Return one event on one line, without its end."""
    return json_line(event(record, origin))


def event(record: Record, origin: Origin) -> dict[str, object]:
    """Return the event of a record."""
    row = ocsf_classes.of(record.known_tag)
    is_of = row.class_.value
    severity, severity_name = _SEVERITY[record.severity]
    status, status_name = _STATUS.get(record.outcome, _UNKNOWN)
    said: dict[str, object] = {
        **_classification(is_of, row.activity, record),
        "time": (record.microseconds or 0) // 1000,
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "status_code": record.reason,
        "status_detail": record.outcome,
        "message": f"{record.title} {record.subject}".strip(),
        "metadata": _metadata(record, origin),
        "raw_data": record.text,
        "unmapped": _unmapped(record),
        **_particular(row.class_, record),
    }
    return {name: value for name, value in said.items() if value not in ("", {})}


def _classification(is_of: ClassOf, activity: int, record: Record) -> dict[str, object]:
    activity_name = is_of.activities.get(activity) or record.action or "Other"
    return {
        "category_uid": is_of.category_uid,
        "category_name": is_of.category_name,
        "class_uid": is_of.uid,
        "class_name": is_of.name,
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": is_of.uid * 100 + activity,
        "type_name": f"{is_of.name}: {'Other' if activity == OTHER else activity_name}",
    }


def _metadata(record: Record, origin: Origin) -> dict[str, object]:
    said: dict[str, object] = {
        "version": SCHEMA,
        "product": {"name": PRODUCT, "vendor_name": "Sprat", "version": origin.version},
        "uid": f"{record.log}/{record.seq}",
        "sequence": record.seq,
        "event_code": record.tag,
        "log_name": record.log,
        "log_provider": origin.host,
        "correlation_uid": record.request,
    }
    return {name: value for name, value in said.items() if value != ""}


def _unmapped(record: Record) -> dict[str, object]:
    named = record.named()
    said: dict[str, object] = {name: named[name] for name in _UNMAPPED if name in named}
    return said | ({"detail": record.detail} if record.detail else {})


def _particular(class_: Class, record: Record) -> Mapping[str, object]:
    """Return what a class has beside what all have."""
    actor: dict[str, object] = {"actor": _actor(record)}
    kind, _, id_ = record.subject.partition("/")
    thing = {"name": record.subject or "unknown", "uid": id_ or kind or "unknown"}
    match class_:
        case Class.BASE:
            return {}
        case Class.AUTHENTICATION:
            return actor | {"user": _user(record), "service": {"name": PRODUCT}}
        case Class.ENTITY:
            type_id, type_name = _ENTITY_TYPES.get(kind, (OTHER, kind or "Other"))
            entity: dict[str, object] = {**thing, "type_id": type_id, "type": type_name}
            if type_id != OTHER:  # which has its own attribute
                own = {"type_id": 0} if type_name == "Device" else {}
                entity[type_name.lower()] = thing | own
            return actor | {"entity": entity}
        case Class.USER_ACCESS:
            return actor | {"user": thing, "privileges": _roles(record)}
        case Class.LIFECYCLE:
            return {"app": thing}
        case Class.API:
            source = record.tag.partition(":")[0] or "unknown"
            api: dict[str, object] = {"operation": record.tag, "service": {"name": PRODUCT}}
            if record.request:
                api["request"] = {"uid": record.request}
            resources = [thing | {"type": kind or "unknown"}]
            return actor | {
                "api": api,
                "src_endpoint": {"svc_name": source},
                "resources": resources,
            }


def _roles(record: Record) -> list[str]:
    """Return the role that was given or taken, and over what."""
    for name in ("after", "before"):
        match record.detail.get(name):
            case {"role": str() as role, "scope": str() as scope} if role:
                return [f"{role} over {scope or 'everything'}"]
            case _:
                pass
    return []


def _actor(record: Record) -> Mapping[str, object]:
    said: dict[str, object] = {"user": _user(record)}
    return said | ({"session": {"uid": record.session}} if record.session else {})


def _user(record: Record) -> dict[str, object]:
    return {
        "name": record.actor_id or "unknown",
        "uid": record.actor or "unknown",
        "type_id": _USER_TYPES.get(record.actor_type, OTHER),
        "type": record.actor_type or "unknown",
    }
