from __future__ import annotations

import json
from pathlib import Path

import pytest
from sprat_controller import config
from sprat_controller.config import Broker, DataFolder
from sprat_controller.errors import StartupError


@pytest.mark.parametrize(
    ("text", "broker"),
    [
        ("off", None),
        ("managed", Broker(port=1234)),
        ("mqtts://broker.example:1883", Broker("broker.example", 1883)),
        ("mqtts://broker.example", Broker("broker.example", 8883)),
        ("mqtts://[::1]:99/", Broker("::1", 99)),
    ],
)
def test_a_broker_is_off_managed_or_elsewhere(text: str, broker: Broker | None) -> None:
    assert config.parse_broker(text, 1234) == broker


@pytest.mark.parametrize(
    "text", ["", "on", "mqtt://a:1", "mqtts://", "mqtts://a:x", "mqtts://a:99999", "mqtts://a/b"]
)
def test_other_brokers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected off, managed or mqtts://HOST:PORT"):
        config.parse_broker(text, 1234)


@pytest.mark.parametrize("text", ["-1", "65536", "http", "", "1.5", "²"])
def test_other_ports_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a port from 0 to 65535"):
        config.check_port(text)


@pytest.mark.parametrize(
    ("text", "host"), [("Ctl.Example", "ctl.example"), ("10.0.0.1", "10.0.0.1"), ("::1", "::1")]
)
def test_a_host_is_a_name_or_an_address(text: str, host: str) -> None:
    assert config.check_host(text) == host


@pytest.mark.parametrize("text", ["", "a b", "a/b", "-a", "[::1]", "a:1", "a" * 300])
def test_other_hosts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a host name or address"):
        config.check_host(text)


def test_a_certificate_holds_the_public_names_first_and_no_wildcard() -> None:
    names = config.server_names(["ctl.example"], "0.0.0.0", "box")  # noqa: S104 - compared, not bound
    assert names[0] == "ctl.example"
    assert "0.0.0.0" not in names  # noqa: S104 - as above
    assert {"127.0.0.1", "::1"} < set(names)
    assert {"box", "localhost"} < set(names)
    assert config.server_names([], "127.0.0.1", "box")[0] == "127.0.0.1"
    assert len(names) == len(set(names))


def test_a_machine_with_a_strange_name_still_gets_a_certificate() -> None:
    assert "my_host name" not in config.server_names([], "127.0.0.1", "my_host name")


def test_a_private_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    config.write_private(path, b"one")
    config.write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"hosts": ["a b"]}', '{"hosts": 1}', '{"hosts": []}']
)
def test_settings_that_init_did_not_write_are_refused(tmp_path: Path, text: str) -> None:
    folder = DataFolder(tmp_path)
    folder.settings.write_text(text)
    with pytest.raises(StartupError, match=r"settings\.json"):
        folder.hosts()


def test_a_shared_database_is_named_by_its_url(tmp_path: Path) -> None:
    url = "postgresql+psycopg://sprat:secret@db.example:5432/fleet?sslmode=verify-full"
    assert config.check_database(url) == url
    folder = DataFolder(tmp_path)
    folder.settings.write_text(json.dumps({"hosts": [], "machine": "box", "database": url}))
    assert folder.database_url() == url
    folder.settings.write_text(json.dumps({"hosts": [], "machine": "box"}))
    assert folder.database_url() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fleet.db",
        "sqlite:///fleet.db",
        "postgresql://sprat:secret@db/fleet",
        "postgresql+psycopg://sprat:secret@db",
        "postgresql+psycopg://sprat:secret@db/",
        "postgresql+psycopg://sprat:secret@db/a/b",
        "postgresql+psycopg://sprat:secret@[db/fleet",
    ],
)
def test_other_databases_are_refused_in_a_sentence_without_their_password(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected postgresql\+psycopg://USER@HOST/NAME"
    ) as caught:
        config.check_database(text)
    assert "secret" not in str(caught.value)
