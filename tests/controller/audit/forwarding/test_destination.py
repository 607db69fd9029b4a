from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.audit.forwarding.destination import (
    Content,
    Destination,
    Transport,
    each_once,
    parse,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("syslog+udp://siem.example", Destination(Transport.UDP, "siem.example", 514)),
        ("syslog+tcp://siem.example:1", Destination(Transport.TCP, "siem.example", 1)),
        (
            "syslog+tls://[::1]?content=cef&ca=/etc/ca.pem",
            Destination(Transport.TLS, "::1", 6514, content=Content.CEF, ca=Path("/etc/ca.pem")),
        ),
        ("otlp+http://collector", Destination(Transport.HTTP, "collector", 4318, "/v1/logs")),
        (
            "otlp+https://o.example:443/otlp/v1/logs?headers=h&certificate=c&key=k",
            Destination(
                Transport.HTTPS,
                "o.example",
                443,
                "/otlp/v1/logs",
                headers=Path("h"),
                certificate=Path("c"),
                key=Path("k"),
            ),
        ),
    ],
)
def test_a_url_says_where_and_how(text: str, expected: Destination) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("siem.example:514", "expected a URL such as"),
        ("https://siem.example", "expected a URL such as"),
        ("syslog+tcp://", "expected a URL such as"),
        ("syslog+tcp://siem:99999", "expected a URL such as"),
        ("syslog+tcp://ann:secret@siem", "expected a URL such as"),
        ("syslog+tcp://siem/path", "no path"),
        ("syslog+tcp://siem?ca=x", "found 'ca=x'"),
        ("syslog+tls://siem?content=xml", "json, cef, ocsf"),
        ("syslog+tls://siem?content=cef&content=cef", "at most once"),
        ("syslog+tls://siem?key=k", "together"),
        ("otlp+http://siem?content=cef", "found 'content=cef'"),
        ("otlp+https://siem?headers=", "found 'headers='"),
    ],
)
def test_what_is_wrong_is_one_sentence(text: str, part: str) -> None:
    with pytest.raises(ValueError, match="expected") as found:
        parse(text)
    assert part in str(found.value)
    assert "\n" not in str(found.value)


URLS = st.text() | st.builds(
    "{}://{}{}".format, st.sampled_from(Transport), st.text(), st.sampled_from(["", ":1", "?ca=x"])
)


@given(URLS)
def test_any_text_is_a_destination_or_a_sentence(text: str) -> None:
    try:
        made = parse(text)
    except ValueError as error:
        said = str(error)
    else:
        said = "expected"
        assert parse(made.name).name == made.name
    assert said.startswith("expected")


def test_what_is_sent_does_not_change_how_far_it_is() -> None:
    assert parse("syslog+tls://S:6514?content=cef").name == parse("syslog+tls://s").name


def test_a_receiver_is_given_in_one_way() -> None:
    first, second = parse("syslog+tls://a?logs=all"), parse("syslog+tls://b")
    assert each_once([first, second, first]) == (first, second)
    assert each_once([]) == ()
    with pytest.raises(ValueError, match="expected syslog\\+tls://a:6514 once"):
        each_once([parse("syslog+tls://a?logs=devices"), parse("syslog+tls://a")])


@pytest.mark.parametrize("logs", ["controller", "devices", "all"])
def test_whose_logs_are_sent_is_said(logs: str) -> None:
    assert parse(f"syslog+tls://siem.example?logs={logs}").logs.value == logs
    assert parse(f"otlp+https://siem.example?logs={logs}").logs.value == logs
    with pytest.raises(ValueError, match="controller, devices, all"):
        parse("syslog+tls://siem.example?logs=nobody")
