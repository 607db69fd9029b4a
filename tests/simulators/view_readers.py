r"""Readers of the formats that audit records are shown in, written from the specifications alone.

Strict: what a specification does not allow is an AssertionError. None of them imports ours.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

CEF_KEY = re.compile(r"(?:^| )([A-Za-z0-9_]+)=")


@dataclass(frozen=True)
class Cef:
    header: list[str]
    extension: dict[str, str]


def read_cef(line: bytes) -> Cef:
    text = line.decode()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text), "a control character"
    assert text.startswith("CEF:0|")
    header: list[str] = []
    at = len("CEF:0|")
    while len(header) < 6:
        part, at = _until(text, at, "|", {"\\": "\\", "|": "|"})
        header.append(part)
    extension: dict[str, str] = {}
    rest = text[at:]
    # A key stands before an `=` without a backslash: in values each has one.
    escaped = re.sub(r"\\.", "\0\0", rest)
    keys = list(CEF_KEY.finditer(escaped))
    assert keys[0].start() == 0
    assert escaped.count("=") == len(keys), "an `=` that is no escape and has no key"
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        raw = rest[key.end() : following.start() if following else len(rest)]
        value, end = _until(raw, 0, None, {"\\": "\\", "=": "=", "n": "\n", "r": "\r"})
        assert end == len(raw)
        assert key[1] not in extension, "a key twice"
        extension[key[1]] = value
    return Cef(header, extension)


def _until(text: str, at: int, stop: str | None, escapes: dict[str, str]) -> tuple[str, int]:
    said: list[str] = []
    while at < len(text):
        if text[at] == "\\":
            said.append(escapes[text[at + 1]])
            at += 2
            continue
        if text[at] == stop:
            return "".join(said), at + 1
        said.append(text[at])
        at += 1
    assert stop is None, f"no {stop} at the end"
    return "".join(said), at


@dataclass(frozen=True)
class Syslog:
    priority: int
    at: datetime | None
    hostname: str
    app_name: str
    procid: str
    msgid: str
    data: dict[str, dict[str, str]]
    message: str | None


SYSLOG_HEADER = re.compile(
    rb"<(0|[1-9][0-9]{0,2})>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))"
    rb" (-|[!-~]{1,255}) (-|[!-~]{1,48}) (-|[!-~]{1,128}) (-|[!-~]{1,32}) "
)
SD_NAME = re.compile(r'[^\x00-\x20="\]\x7f-\U0010ffff]{1,32}')


def read_syslog(message: bytes) -> Syslog:
    header = SYSLOG_HEADER.match(message)
    assert header is not None, message[:200]
    priority = int(header[1])
    assert priority <= 191
    hostname, app_name, procid, msgid = (header[number].decode() for number in (3, 4, 5, 6))
    rest = message[header.end() :]
    elements, end = _elements(rest)
    tail = rest[end:]
    said = None
    if tail:
        assert tail.startswith(b" \xef\xbb\xbf"), "a message that does not begin with its mark"
        said = tail[4:].decode()
    at = header[2].decode()
    moment = None if at == "-" else datetime.fromisoformat(at)
    return Syslog(priority, moment, hostname, app_name, procid, msgid, elements, said)


def _elements(rest: bytes) -> tuple[dict[str, dict[str, str]], int]:
    text = rest.decode()
    elements: dict[str, dict[str, str]] = {}
    at = 0
    while at < len(text) and text[at] == "[":
        id_ = SD_NAME.match(text, at + 1)
        assert id_ is not None
        assert id_[0] not in elements, "an element twice"
        params: dict[str, str] = {}
        at = id_.end()
        while text[at] == " ":
            name = SD_NAME.match(text, at + 1)
            assert name is not None
            assert text[name.end() : name.end() + 2] == '="'
            value, at = _param(text, name.end() + 2)
            params[name[0]] = value
        assert text[at] == "]"
        at += 1
        elements[id_[0]] = params
    assert elements
    return elements, len(text[:at].encode())


def _param(text: str, at: int) -> tuple[str, int]:
    said: list[str] = []
    while text[at] != '"':
        assert text[at] != "]", "a bracket that is no escape"
        if text[at] == "\\":
            assert text[at + 1] in '"\\]'
            at += 1
        said.append(text[at])
        at += 1
    return "".join(said), at + 1


def read_otlp(line: bytes) -> list[dict[str, Any]]:
    """Return the log records, each with its attributes as a mapping; resource and scope checked."""
    (resource_logs,) = json.loads(line)["resourceLogs"]
    assert set(resource_logs) == {"resource", "scopeLogs"}
    resource = _attributes(resource_logs["resource"]["attributes"])
    assert resource["service.name"]
    (scope_logs,) = resource_logs["scopeLogs"]
    assert set(scope_logs) == {"scope", "logRecords"}
    assert scope_logs["scope"]["name"]
    return [_log_record(record) for record in scope_logs["logRecords"]]


OTLP_FIELDS = {
    "timeUnixNano",
    "observedTimeUnixNano",
    "severityNumber",
    "severityText",
    "body",
    "attributes",
    "droppedAttributesCount",
    "flags",
    "traceId",
    "spanId",
    "eventName",
}


def _log_record(record: dict[str, Any]) -> dict[str, Any]:
    assert set(record) <= OTLP_FIELDS, set(record) - OTLP_FIELDS
    assert isinstance(record["timeUnixNano"], str)
    assert 0 <= int(record["timeUnixNano"]) < 1 << 64
    assert 1 <= record["severityNumber"] <= 24
    for name, digits in (("traceId", 32), ("spanId", 16)):
        if name in record:
            assert re.fullmatch(rf"[0-9a-f]{{{digits}}}", record[name])
            assert int(record[name], 16)
    assert ("spanId" in record) <= ("traceId" in record)
    return record | {
        "body": _value(record["body"]),
        "attributes": _attributes(record["attributes"]),
    }


def _attributes(listed: list[dict[str, Any]]) -> dict[str, Any]:
    for one in listed:
        assert set(one) == {"key", "value"}
    names = [one["key"] for one in listed]
    assert len(names) == len(set(names)), "a key twice"
    return {one["key"]: _value(one["value"]) for one in listed}


def _value(said: dict[str, Any]) -> Any:
    if not said:
        return None
    ((kind, value),) = said.items()
    match kind:
        case "stringValue" | "boolValue":
            assert isinstance(value, str if kind == "stringValue" else bool)
            return value
        case "intValue":
            assert isinstance(value, str)
            assert -(1 << 63) <= int(value) < 1 << 63
            return int(value)
        case "doubleValue":
            return float(value)
        case "kvlistValue":
            return _attributes(value["values"])
        case "arrayValue":
            return [_value(one) for one in value["values"]]
        case _:
            raise AssertionError(kind)
