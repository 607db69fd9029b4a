"""Every view of every record is read back, by readers that know the specifications and not us."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.view_readers import read_cef, read_otlp, read_syslog
from sprat_controller.audit.views import Format, cef, line, ocsf, ocsf_classes, otlp, syslog
from sprat_controller.audit.views.ocsf_classes import Class
from sprat_controller.audit.views.record import MAX_PLAIN, Origin, plain, printable, read
from sprat_proto import audit_events
from sprat_proto.audit_events import Tag

ORIGIN = Origin("ctl.example", "0.1.0")
NOW = datetime(2026, 11, 26, 17, 0, 0, 123000, tzinfo=UTC)
REQUEST = "019abcde-0123-7abc-8def-0123456789ab"
SCHEMA: dict[str, Any] = json.loads((Path(__file__).parent / "ocsf-1.6.0.json").read_text())

# What breaks lines, terminals and escapes, more often than chance would have it.
NASTY = st.sampled_from(
    [
        *("\n", "\r\n", "\x00", "\x1b[2J", "\x85", "\u2028", "\u202e", "\ufeff", "|", "\\"),
        *(
            "\\n",
            "=",
            " cs1=",
            '"',
            "]",
            "[x",
            '="',
            "😀",
            "\U0010ffff",
            " ",
            "  ",
            "é",
            "<13>1 ",
            "CEF:0|",
        ),
    ]
)
LONG = st.just("a😀\n" * 500)
TEXTS = st.lists(NASTY | st.text(max_size=4) | LONG, max_size=4).map("".join)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
DETAILS = st.dictionaries(
    TEXTS,
    st.recursive(
        st.booleans() | INTEGERS | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
ACTORS: st.SearchStrategy[dict[str, str]] = st.fixed_dictionaries(
    {"type": st.sampled_from(["user", "service", "device", "system", "unknown", "x"]), "id": TEXTS},
    optional={"authn": TEXTS, "session": TEXTS},
)
TAGS = st.sampled_from([tag.value for tag in Tag]) | TEXTS
MORE = st.dictionaries(
    st.sampled_from(["scope", "request", "before", "after", "reason", "tsq", "trace"]),
    TEXTS | st.sampled_from([REQUEST, "synced", "unsynced"]),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Records of our shape, with anything in every text of them."""
    return audit_events.encode(
        log=draw(TEXTS),
        seq=draw(st.integers(1, 2**63 - 1)),
        at=draw(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC))),  # noqa: DTZ001 - hypothesis wants it so
        actor=draw(ACTORS),
        tag=draw(TAGS),
        subject=draw(TEXTS),
        outcome=draw(st.sampled_from(["success", "failure", "denied"]) | TEXTS),
        detail=draw(DETAILS),
        more=draw(MORE),
    )


# Whatever a device may have written in its log, and what no log should hold.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["v", "log", "seq", "ts", "actor", "tag", "subject", "detail", "outcome", "reason"]
FOREIGN = (
    st.dictionaries(st.sampled_from(FIELDS), JSON).map(lambda said: json.dumps(said).encode())
    | JSON.map(lambda said: json.dumps(said).encode())
    | st.binary(max_size=60)
)


def record(tag: Tag = Tag.ROLLOUT_STARTED, **more: str) -> bytes:
    return audit_events.encode(
        log="controller",
        seq=7,
        at=NOW,
        actor={"type": "user", "id": "ann", "authn": "token", "session": "t-1"},
        tag=tag.value,
        subject="rollout/r-1",
        outcome=more.pop("outcome", "success"),
        detail={"groups": 3},
        more={"request": REQUEST, **more},
    )


def ocsf_fault(said: object, kind: str, where: str = "") -> str | None:
    """Return what the schema does not allow of an object."""
    is_of = SCHEMA["objects"].get(kind)
    if is_of is None:
        return None
    assert isinstance(said, dict), where
    return attributes_fault(cast("dict[str, Any]", said), is_of, where)


def attributes_fault(said: dict[str, Any], is_of: dict[str, Any], where: str) -> str | None:
    allowed = is_of["attributes"]
    for name, attribute in allowed.items():
        if attribute.get("required") and name not in said:
            return f"{where}: {name} is required"
    if "at_least_one" in is_of and not set(is_of["at_least_one"]) & set(said):
        return f"{where}: one of {is_of['at_least_one']} is required"
    for name, value in said.items():
        if name not in allowed:
            return f"{where}: there is no {name}"
        attribute = allowed[name]
        for one in value if attribute.get("array") else [value]:
            fault = value_fault(one, attribute, f"{where}.{name}")
            if fault:
                return fault
    return None


def value_fault(value: object, attribute: dict[str, Any], where: str) -> str | None:
    kind = attribute["type"]
    if kind in ("integer_t", "timestamp_t", "long_t"):
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{where}: {value!r} is no integer"
        # Every class allows 0, Unknown, and 99, Other.
        if "enum" in attribute and str(value) not in {*attribute["enum"], "0", "99"}:
            return f"{where}: there is no {value}"
    elif kind in SCHEMA["objects"]:
        return ocsf_fault(value, kind, where)
    elif kind.endswith("_t") and not isinstance(value, str):
        return f"{where}: {value!r} is no text"
    return None


def check_ocsf(event: dict[str, Any]) -> None:
    is_of = SCHEMA["classes"][str(event["class_uid"])]
    assert attributes_fault(event, is_of, is_of["caption"]) is None
    assert event["class_name"] == is_of["caption"]
    assert event["category_uid"] == is_of["category_uid"]
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["metadata"]["version"] == SCHEMA["version"]
    caption = is_of["attributes"]["activity_id"].get("enum", {}).get(str(event["activity_id"]))
    if event["activity_id"] not in (0, 99):
        assert event["activity_name"] == caption


def one_line(rendered: bytes) -> bytes:
    assert rendered.endswith(b"\n")
    # Not the readers' idea of a line alone: Python's splits at ten characters.
    assert len(rendered.decode().splitlines()) == 1
    return rendered[:-1]


@given(bodies())
def test_cef_is_read_back(body: bytes) -> None:
    said = read_cef(one_line(line(Format.CEF, body, ORIGIN)))
    given_ = json.loads(body)
    assert json.loads(said.extension["spratRecord"]) == given_
    assert said.header[:4] == ["Sprat", "sprat-controller", "0.1.0", plain(given_["tag"])]
    assert 0 <= int(said.header[5]) <= 10
    assert said.extension["externalId"] == str(given_["seq"])
    for key, name in (("outcome", "outcome"), ("reason", "reason"), ("deviceExternalId", "log")):
        assert said.extension.get(key, "") == plain(given_.get(name, ""), but="\r\n")
    for key, name in cef.CUSTOM.items():
        if name in ("authn", "session"):
            expected = given_["actor"].get(name, "")
        else:
            expected = given_.get(name, "")
        assert said.extension.get(key, "") == plain(expected, but="\r\n")
        assert said.extension.get(f"{key}Label", name) == name


@given(bodies())
def test_syslog_is_read_back(body: bytes) -> None:
    said = read_syslog(one_line(line(Format.RFC5424, body, ORIGIN)))
    given_ = json.loads(body)
    assert said.message is not None
    assert json.loads(said.message) == given_
    assert (said.hostname, said.app_name, said.procid) == ("ctl.example", "sprat", "-")
    assert said.priority >> 3 == 13
    fields = said.data[syslog.SD_ID]
    for name in ("log", "tag", "subject", "scope", "before", "after", "outcome", "reason"):
        assert fields.get(name, "") == plain(given_.get(name, ""))
    if said.at is not None:
        assert said.at.replace(microsecond=0) == datetime.fromisoformat(given_["ts"]).replace(
            microsecond=0
        )


@given(bodies(), st.integers(12_000, 20_000))
def test_a_datagram_has_its_bound_and_says_what_was_cut(body: bytes, limit: int) -> None:
    content = printable(body).encode()
    message = syslog.message(read(body), ORIGIN, content, limit)
    assert len(message) <= limit
    said = read_syslog(message)
    if said.message is None:
        assert said.data[syslog.SD_ID]["cut"] == str(len(content))
        assert said.data[syslog.SD_ID]["seq"] == str(json.loads(body)["seq"])
    else:
        assert json.loads(said.message) == json.loads(body)


@given(bodies())
def test_otlp_is_read_back(body: bytes) -> None:
    (said,) = read_otlp(one_line(line(Format.OTLP, body, ORIGIN)))
    given_ = json.loads(body)
    assert json.loads(said["body"]) == given_
    attributes = said["attributes"]
    assert attributes["sprat.seq"] == given_["seq"]
    assert attributes["sprat.detail"] == given_["detail"]
    for name in ("log", "tag", "subject", "scope", "before", "after", "outcome", "reason"):
        assert attributes.get(f"sprat.{name}", "") == given_.get(name, "")
    at = int(datetime.fromisoformat(given_["ts"]).replace(microsecond=0).timestamp())
    # 64 bits of nanoseconds end in 2554; a clock may be wrong by more.
    assert int(said["timeUnixNano"]) // 10**9 == (at if at < 2**64 // 10**9 else 0)


@given(bodies())
def test_ocsf_is_read_back(body: bytes) -> None:
    said = json.loads(one_line(line(Format.OCSF, body, ORIGIN)))
    check_ocsf(said)
    given_ = json.loads(body)
    assert json.loads(said["raw_data"]) == given_
    assert said["metadata"]["sequence"] == given_["seq"]
    assert said.get("unmapped", {}).get("detail", {}) == given_["detail"]
    assert said.get("status_code", "") == given_.get("reason", "")


@given(FOREIGN, st.sampled_from(Format))
def test_nothing_that_a_log_may_hold_is_without_a_view(body: bytes, format_: Format) -> None:
    rendered = one_line(line(format_, body, ORIGIN))
    match format_:
        case Format.CEF:
            text = read_cef(rendered).extension.get("spratRecord", "")
        case Format.RFC5424:
            text = read_syslog(rendered).message or ""
        case Format.OTLP:
            text = read_otlp(rendered)[0]["body"]
        case Format.OCSF:
            event = json.loads(rendered)
            check_ocsf(event)
            text = event.get("raw_data", "")
    assert text == printable(body)
    try:
        given_ = json.loads(body)
    except ValueError:
        return
    assert repr(json.loads(text)) == repr(given_)  # NaN is not like itself


@pytest.mark.parametrize("tag", Tag)
def test_every_tag_has_its_class_and_the_schema_allows_it(tag: Tag) -> None:
    assert tag in ocsf_classes.ROWS, f"{tag.name} needs a row in ocsf_classes.ROWS"
    event = json.loads(line(Format.OCSF, record(tag), ORIGIN))
    assert event["class_uid"] in (3002, 3004, 3005, 6002, 6003)
    check_ocsf(event)


def test_the_classes_are_called_as_the_schema_calls_them() -> None:
    for class_ in Class:
        is_of = SCHEMA["classes"][str(class_.value.uid)]
        enum = is_of["attributes"]["activity_id"].get("enum", {})
        for activity, name in class_.value.activities.items():
            assert enum[str(activity)] == name


def test_a_tag_of_a_newer_agent_is_a_base_event() -> None:
    body = record().replace(b"operator:rollout:started", b"agent:teapot:brewed")
    event = json.loads(line(Format.OCSF, body, ORIGIN))
    check_ocsf(event)
    assert (event["class_uid"], event["activity_id"], event["activity_name"]) == (0, 99, "brewed")


def test_who_was_given_a_role_and_which() -> None:
    body = audit_events.encode(
        log="controller",
        seq=1,
        at=NOW,
        actor={"type": "user", "id": "ann"},
        tag=Tag.ROLE_GRANTED.value,
        subject="subject/user:bob",
        outcome="success",
        detail={"before": {}, "after": {"role": "operator", "scope": "site = lyon"}},
        more={},
    )
    event = ocsf.event(read(body), ORIGIN)
    assert event["privileges"] == ["operator over site = lyon"]
    assert event["user"] == {"name": "subject/user:bob", "uid": "user:bob"}
    assert event["type_uid"] == 300501


def test_a_record_as_it_looks() -> None:
    # What docs/audit-exports.md shows: whoever changes it changes the page.
    assert line(Format.CEF, record(), ORIGIN).startswith(
        b"CEF:0|Sprat|sprat-controller|0.1.0|operator:rollout:started|rollout started|3|"
        b"rt=1795712400123 dvchost=ctl.example deviceExternalId=controller externalId=7"
        b" suser=user:ann act=started outcome=success requestContext=" + REQUEST.encode()
    )
    assert line(Format.RFC5424, record(), ORIGIN).startswith(
        b"<110>1 2026-11-26T17:00:00.123000Z ctl.example sprat - operator:rollout:started"
        b' [sprat@32473 log="controller" seq="7" tag="operator:rollout:started"'
    )


@pytest.mark.parametrize(
    ("body", "priority", "cef_severity", "number"),
    [
        (record(), 13 * 8 + 6, 3, 9),
        (record(outcome="denied"), 13 * 8 + 4, 6, 13),
        (record(Tag.DEVICE_AUDIT_BROKEN, outcome="failure"), 13 * 8 + 1, 9, 17),
    ],
)
def test_what_wants_to_be_looked_at_says_so(
    body: bytes, priority: int, cef_severity: int, number: int
) -> None:
    assert read_syslog(syslog.render(read(body), ORIGIN)).priority == priority
    assert read_cef(cef.render(read(body), ORIGIN)).header[5] == str(cef_severity)
    assert read_otlp(otlp.render(read(body), ORIGIN))[0]["severityNumber"] == number


def test_all_records_of_a_request_are_one_trace() -> None:
    records = [read(record()), read(record(Tag.ROLLOUT_PAUSED)), read(record(request="mine"))]
    first, second, third = read_otlp(otlp.request(records, ORIGIN))
    assert first["traceId"] == second["traceId"] == REQUEST.replace("-", "")
    assert "traceId" not in third
    traced = record(trace=f"00-{'ab' * 16}-{'cd' * 8}-01")
    (said,) = read_otlp(otlp.render(read(traced), ORIGIN))
    assert (said["traceId"], said["spanId"], said["flags"]) == ("ab" * 16, "cd" * 8, 1)


def test_a_record_of_version_1_has_its_actor() -> None:
    body = b'{"actor":"user:ann","seq":1,"tag":"operator:token:created","v":1}'
    assert (read(body).actor, read(body).actor_type, read(body).actor_id) == (
        "user:ann",
        "user",
        "ann",
    )


def test_fields_are_cut_and_the_record_is_not() -> None:
    body = record(reason="x" * 5000)
    said = read_cef(cef.render(read(body), ORIGIN))
    assert len(said.extension["reason"]) == MAX_PLAIN
    assert json.loads(said.extension["spratRecord"])["reason"] == "x" * 5000


def test_a_clock_that_is_not_synchronised_is_said() -> None:
    said = read_syslog(syslog.render(read(record(tsq="unsynced")), ORIGIN))
    assert said.data["timeQuality"] == {"tzKnown": "1", "isSynced": "0"}


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (2**63 - 1, "intValue"),
        (-(2**63), "intValue"),
        (2**63, "stringValue"),
        (-(2**63) - 1, "stringValue"),
        (2**70, "stringValue"),
    ],
)
def test_an_integer_that_otlp_has_no_room_for_is_a_text(number: int, kind: str) -> None:
    rendered = json.loads(otlp.render(read(b'{"seq":1,"detail":{"n":%d}}' % number), ORIGIN))
    (record,) = rendered["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    named = {one["key"]: one["value"] for one in record["attributes"]}
    (found,) = named["sprat.detail"]["kvlistValue"]["values"]
    assert found == {"key": "n", "value": {kind: str(number)}}
