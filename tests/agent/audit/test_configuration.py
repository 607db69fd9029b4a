"""What the agent was started with, and what of it is on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulators.sealed import journal_of
from sprat_agent.audit import configuration, settings
from sprat_agent.audit.configuration import StartedWith
from sprat_agent.audit.policy import Capture, Policy
from sprat_agent.config import AuditConfig, NetworkConfig, RunConfig
from sprat_agent.errors import StartupError, StateError
from sprat_agent.state import State

KEY = "k" * 40
BASIS = "GDPR Art. 6(1)(c): it is the law"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    beyond = NetworkConfig("0.0.0.0:1", None, None, keys, ("gw.lan",))
    return RunConfig(tmp_path, "127.0.0.1:0", tmp_path / "s", None, "auto", beyond)


def noted(state: State, *starts: StartedWith) -> list[dict[str, Any]]:
    journal = journal_of(state)
    for one in starts:
        configuration.note(state, journal, one)
    return [json.loads(one.body) for one in journal.batch(100, 10**9)]


def of(config: RunConfig, capture: Capture | None = None) -> StartedWith:
    return configuration.started_with(settings.settings_of(config), capture)


def test_a_start_like_the_one_before_is_no_change(state: State, config: RunConfig) -> None:
    (first,) = noted(state, of(config), of(config))
    assert (first["tag"], first["subject"]) == ("agent:configuration:changed", "configuration")
    assert "before" not in first
    assert "network.api_keys" in first["detail"]["changed"]


def test_a_change_is_told_by_its_name_and_never_by_its_value(
    state: State, config: RunConfig, tmp_path: Path
) -> None:
    before = of(config)
    (tmp_path / "keys").write_text("n" * 40)
    now = of(replace(config, prefix_bytes=4711))
    _first, second = noted(state, before, now)
    assert (second["before"], second["after"]) == (before.digest, now.digest)
    assert second["detail"] == {"changed": ["network.api_keys", "prefix_bytes"]}
    with state.reading() as connection:
        (kept,) = connection.execute("SELECT body FROM started_with").fetchone()
    assert not {KEY, "n" * 40, "4711", "gw.lan"} & set(json.dumps(second).split('"'))
    assert KEY.encode() not in kept


def test_every_setting_of_an_agent_counts(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x")
    one = settings.settings_of(config)
    assert {"listen", "socket", "carrier", "is_measured", "network.names", "audit.policy"} <= set(
        one
    )
    other = replace(config, audit=AuditConfig(policy=tmp_path / "other"))
    assert configuration.changed(of(config).settings, of(other).settings) == ["audit.policy"]


def test_that_content_is_kept_goes_on_record_before_any_is(state: State, config: RunConfig) -> None:
    text = Capture("text", BASIS, 30, 512)
    found = noted(
        state,
        of(config),
        of(config, text),
        of(config, text),
        of(config, replace(text, retention_days=60)),
        of(config),
    )
    assert [one["tag"] for one in found[1:]] == ["agent:capture:changed"] * 3
    words = [(one["before"], one["after"]) for one in found[1:]]
    assert words == [("none", "text"), ("text", "text"), ("text", "none")]
    on, longer, off = (one["detail"] for one in found[1:])
    terms = {"content": "text", "basis": BASIS, "retention_days": 30, "most_bytes": 512}
    assert on == {"before": {"content": "none"}, "after": terms}
    assert longer == {"before": terms, "after": {**terms, "retention_days": 60}}
    assert off == {"before": {**terms, "retention_days": 60}, "after": {"content": "none"}}


def test_what_cannot_be_read_is_said_in_one_sentence(state: State, config: RunConfig) -> None:
    with state.transaction() as connection:
        connection.execute("INSERT INTO started_with VALUES (1, ?)", (b"{}",))
    with pytest.raises(StateError, match="what the agent was started with"):
        noted(state, of(config))


def test_a_policy_that_is_missing_or_wrong_stops_the_start(tmp_path: Path) -> None:
    assert settings.read_policy(None) == Policy()
    with pytest.raises(StartupError, match=r"none\.toml cannot be read: No such file"):
        settings.read_policy(tmp_path / "none.toml")
    file = tmp_path / "policy.toml"
    file.write_text('inference = "each"\n[capture]\ncontent = "text"\nretention_days = 3\n')
    with pytest.raises(StartupError, match=r"policy\.toml is refused: .* takes a legal basis"):
        settings.read_policy(file)
    file.write_bytes(b"#" * (2 << 20))
    with pytest.raises(StartupError, match="expected up to 1048576 bytes"):
        settings.read_policy(file)


def test_the_key_of_hashes_is_made_once_and_is_the_owners(tmp_path: Path) -> None:
    policy = Policy(1, Capture("hash", BASIS, 30))
    assert settings.capturing_of(Policy(), tmp_path) is None
    assert not (tmp_path / settings.KEY_FILE).exists()
    assert settings.capturing_of(policy, tmp_path)
    key = tmp_path / settings.KEY_FILE
    made = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    settings.capturing_of(policy, tmp_path)
    assert key.read_bytes() == made
    key.write_bytes(b"short")
    with pytest.raises(StartupError, match="expected a key of 32 bytes"):
        settings.capturing_of(policy, tmp_path)
