"""Records as OpenTelemetry logs: OTLP 1 in its JSON form. Pure.

64-bit integers are decimal strings and ids of traces are hex, as the form wants. All records of one
request are one trace: its id is that of the request, if that is a UUID as the controller makes
them, or what `trace` says (W3C traceparent). The body is the whole record as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Final, cast

from sprat_controller.audit.views.record import PRODUCT, Origin, Record, Severity, json_line

SCOPE: Final = "sprat.audit"
_SEVERITY: Final[Mapping[Severity, tuple[int, str]]] = {
    Severity.INFORMATIONAL: (9, "INFO"),
    Severity.WARNING: (13, "WARN"),
    Severity.ALARM: (17, "ERROR"),
}
_UUID: Final = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})", re.ASCII
)
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_MAX_DEPTH: Final = 8
_FIXED64: Final = range(1 << 64)
_INT64: Final = range(-(1 << 63), 1 << 63)


def render(record: Record, origin: Origin) -> bytes:
    """Return one record as a line of an OTLP file: a whole request that holds it alone."""
    return request([record], origin)


def request(records: Sequence[Record], origin: Origin) -> bytes:
    """Return the body of a request to `/v1/logs`."""
    told = {
        "service.name": PRODUCT,
        "service.version": origin.version,
        "host.name": origin.host,
    }
    logs = {
        "scope": {"name": SCOPE, "version": origin.version},
        "logRecords": [_record(record) for record in records],
    }
    resource = {"attributes": _attributes(told)}
    return json_line({"resourceLogs": [{"resource": resource, "scopeLogs": [logs]}]})


def _record(record: Record) -> dict[str, object]:
    number, word = _SEVERITY[record.severity]
    attributes: dict[str, object] = {
        f"sprat.{name}": value for name, value in record.named().items()
    }
    attributes["sprat.seq"] = record.seq
    attributes["sprat.detail"] = record.detail
    said: dict[str, object] = {
        "timeUnixNano": str(_nanoseconds(record)),
        "severityNumber": number,
        "severityText": word,
        "body": {"stringValue": record.text},
        "attributes": _attributes(attributes),
    }
    if record.tag:
        said["eventName"] = record.tag
    return said | _trace(record)


def _nanoseconds(record: Record) -> int:
    """Return when; 0, the form's word for a time that is not known, if 64 bits do not hold it."""
    nanoseconds = (record.microseconds or 0) * 1000
    return nanoseconds if nanoseconds in _FIXED64 else 0


def _trace(record: Record) -> dict[str, object]:
    parent = _TRACEPARENT.fullmatch(record.trace)
    if parent is not None and int(parent[1], 16) and int(parent[2], 16):
        return {"traceId": parent[1], "spanId": parent[2], "flags": int(parent[3], 16)}
    request_ = _UUID.fullmatch(record.request)
    if request_ is not None and int("".join(request_.groups()), 16):
        return {"traceId": "".join(request_.groups())}
    return {}


def _attributes(said: Mapping[str, object], depth: int = 0) -> list[dict[str, object]]:
    return [{"key": name, "value": _value(value, depth)} for name, value in said.items()]


def _value(value: object, depth: int) -> dict[str, object]:
    if isinstance(value, dict | list) and depth < _MAX_DEPTH:
        return _nested(cast("Mapping[str, object] | list[object]", value), depth + 1)
    if isinstance(value, dict | list) and depth < _MAX_DEPTH:
        return _nested(cast("Mapping[str, object] | list[object]", value), depth + 1)
    return {} if value is None else _scalar(cast("object", value))


def _scalar(value: object) -> dict[str, object]:
    match value:
        case bool():
            return {"boolValue": value}
        case int() if value in _INT64:
            return {"intValue": str(value)}
        case float() if isfinite(value):
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case _:  # an integer of more bits, or what lies too deep for receivers
            return {"stringValue": json_line(value).decode()}


def _nested(value: Mapping[str, object] | list[object], depth: int) -> dict[str, object]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(one, depth) for one in value]}}
    return {"kvlistValue": {"values": _attributes(value, depth)}}
