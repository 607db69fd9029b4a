"""Enrolment: the right controller or nobody, one key for ever, and one clear sentence else."""

from __future__ import annotations

import dataclasses
import re
import stat
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from simulators.enrolment_api import EnrolmentApi, public_pem
from sprat_agent.identity import files, keys
from sprat_agent.identity.enrol import EnrolmentError, enrol, read_publisher_key
from sprat_agent.identity.identity import IdentityError, load
from sprat_proto.claim import parse
from sprat_proto.signing import TrustedKey


@pytest.fixture
def api(tmp_path: Path) -> Generator[EnrolmentApi]:
    made = EnrolmentApi(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def refusal(url: str, token: str, state: Path) -> str:
    """Return the one sentence that enrolment ends with."""
    with pytest.raises(EnrolmentError) as caught:
        enrol(url, token, state)
    return str(caught.value)


def test_an_enrolled_device_knows_who_it_is_and_whom_it_trusts(
    api: EnrolmentApi, state: Path
) -> None:
    identity = enrol(api.url, api.token, state)
    assert identity.device_id == "pond-1"
    assert identity.controller_url == api.url
    assert (identity.grpc, identity.mqtt) == ("127.0.0.1:7771", None)
    assert identity.assignment_key == TrustedKey("controller", api.assignment_pem)
    assert identity.publishers == (TrustedKey("acme", api.publisher_pem),)
    assert load(state) == identity


def test_the_key_is_for_its_owner_only_and_is_what_is_certified(
    api: EnrolmentApi, state: Path
) -> None:
    identity = enrol(api.url, api.token, state)
    assert stat.S_IMODE(identity.key_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(identity.folder.stat().st_mode) == 0o700
    key = keys.open_or_create(identity.key_path)
    certificate, ca = identity.certificate_path.read_text(), identity.ca_path.read_text()
    assert keys.why_not_certified(certificate, "pond-1", key, ca) is None


def test_the_key_never_leaves_the_device(api: EnrolmentApi, state: Path) -> None:
    enrol(api.url, api.token, state)
    (asked,) = api.asked
    assert set(asked) == {"token", "csr"}
    assert "PRIVATE" not in asked["csr"]


def test_another_controller_does_not_get_the_secret(
    api: EnrolmentApi, state: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = EnrolmentApi(tmp_path / "other")
    said = refusal(api.url, other.token, state)
    other.close()
    assert other.authority.fingerprint[:16] in said
    assert api.authority.fingerprint[:16] in said
    assert api.asked == []
    assert not state.exists()


def test_a_controller_with_the_right_authority_but_another_name_does_not_get_the_secret(
    tmp_path: Path, state: Path
) -> None:
    api = EnrolmentApi(tmp_path, names=("elsewhere.example",))
    api.start()
    try:
        said = refusal(api.url, api.token, state)
    finally:
        api.stop()
    assert "init --host" in said
    assert api.asked == []


def test_a_lost_reply_is_answered_by_enrolling_again_with_the_same_key(
    api: EnrolmentApi, state: Path
) -> None:
    api.lose_replies = 1
    assert "cannot be reached" in refusal(api.url, api.token, state)
    with pytest.raises(IdentityError):
        load(state)
    assert enrol(api.url, api.token, state).device_id == "pond-1"


def test_a_power_cut_before_the_identity_is_whole_is_answered_by_enrolling_again(
    api: EnrolmentApi, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_atomically

    def cut(path: Path, data: bytes, *, mode: int) -> None:
        if path.name == "identity.json":
            raise KeyboardInterrupt
        write(path, data, mode=mode)

    monkeypatch.setattr(files, "write_atomically", cut)
    with pytest.raises(KeyboardInterrupt):
        enrol(api.url, api.token, state)
    monkeypatch.undo()
    with pytest.raises(IdentityError, match="no enrolled device"):
        load(state)
    assert enrol(api.url, api.token, state) == load(state)


def test_what_the_controller_says_against_a_token_is_passed_on(
    api: EnrolmentApi, state: Path
) -> None:
    wrong = dataclasses.replace(parse(api.token), secret="w" * 43)
    said = refusal(api.url, str(wrong), state)
    assert "refused to enrol this device: this token is not known" in said
    assert "w" * 43 not in said


def test_an_enrolled_device_is_not_enrolled_over(api: EnrolmentApi, state: Path) -> None:
    enrol(api.url, api.token, state)
    said = refusal(api.url, api.token, state)
    assert "is enrolled already, as pond-1" in said
    assert len(api.asked) == 1


def test_a_controller_that_is_away_is_named(state: Path, api: EnrolmentApi) -> None:
    said = refusal("https://127.0.0.1:1", api.token, state)
    assert re.search(r"controller at https://127\.0\.0\.1:1 cannot be reached", said)


@pytest.mark.parametrize("url", ["", "127.0.0.1:7770", "https://", "https://[", "ftp://host"])
def test_an_address_that_is_none_is_answered_in_words(
    url: str, api: EnrolmentApi, state: Path
) -> None:
    assert "cannot be reached" in refusal(url, api.token, state)


def test_a_server_that_is_no_controller_is_told_apart(api: EnrolmentApi, state: Path) -> None:
    assert "is this the address" in refusal(f"{api.url}/shop", api.token, state)


def test_a_malformed_token_is_not_sent_anywhere(api: EnrolmentApi, state: Path) -> None:
    assert "expected an enrolment token" in refusal(api.url, "hello", state)
    assert api.asked == []


def _other_name(reply: dict[str, Any]) -> object:
    return reply | {"device_id": "pond-2"}


def _no_name(reply: dict[str, Any]) -> object:
    return reply | {"device_id": "../../etc"}


def _no_certificate(reply: dict[str, Any]) -> object:
    return reply | {"certificate": "hello"}


def _its_own_certificate(reply: dict[str, Any]) -> object:
    return reply | {"certificate": reply["ca"]}


def _no_key(reply: dict[str, Any]) -> object:
    return reply | {"assignment_key": {"name": "controller", "public_pem": "hello"}}


def _no_publisher(reply: dict[str, Any]) -> object:
    nobody: list[object] = []
    return reply | {"publishers": nobody}


def _no_form(_reply: dict[str, Any]) -> object:
    return ["hello"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_name, "expected a certificate for 'pond-2', found one for"),
        (_no_name, "is no device id"),
        (_no_certificate, "expected a certificate issued by"),
        (_its_own_certificate, "expected a certificate for 'pond-1'"),
        (_no_key, "the key 'controller'"),
        (_no_form, "in another form"),
    ],
)
def test_an_answer_that_does_not_hold_together_is_refused(
    change: Callable[[dict[str, Any]], object], said: str, api: EnrolmentApi, state: Path
) -> None:
    api.change = change
    assert said in refusal(api.url, api.token, state)
    with pytest.raises(IdentityError):
        load(state)


def test_a_device_that_could_trust_nobody_is_not_enrolled_and_may_try_again(
    api: EnrolmentApi, state: Path
) -> None:
    api.change = _no_publisher
    with pytest.raises(EnrolmentError, match="--publisher-key NAME=FILE"):
        enrol(api.url, api.token, state)
    api.change = lambda reply: reply
    assert enrol(api.url, api.token, state).publishers


def test_pinned_publishers_stand_in_the_place_of_those_the_controller_names(
    api: EnrolmentApi, state: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.pub").write_text(public_pem())
    pinned = read_publisher_key(f"mine={tmp_path / 'mine.pub'}")
    assert enrol(api.url, api.token, state, publishers=[pinned]).publishers == (pinned,)
    assert load(state).publishers == (pinned,)


@pytest.mark.parametrize("option", ["", "mine", "mine=", "=file", "mine=/nonexistent"])
def test_a_publisher_option_that_says_nothing_is_refused(option: str) -> None:
    with pytest.raises(EnrolmentError, match="publisher-key"):
        read_publisher_key(option)


def test_a_publisher_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.pub").write_bytes(b"\xff no key")
    with pytest.raises(EnrolmentError, match=r"no\.pub"):
        read_publisher_key(f"mine={tmp_path / 'no.pub'}")


def test_a_key_file_that_is_damaged_is_not_overwritten(api: EnrolmentApi, state: Path) -> None:
    folder = state / "identity"
    folder.mkdir(parents=True)
    (folder / "key.pem").write_text("half a k")
    assert "expected a private key" in refusal(api.url, api.token, state)
    assert (folder / "key.pem").read_text() == "half a k"


def test_a_state_folder_that_cannot_be_made_is_answered_in_words(
    api: EnrolmentApi, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(api.url, api.token, tmp_path / "file" / "state")


def test_a_damaged_identity_is_said_to_be(api: EnrolmentApi, state: Path) -> None:
    identity = enrol(api.url, api.token, state)
    whole = (identity.folder / "identity.json").read_bytes()
    (identity.folder / "identity.json").write_bytes(whole[:-9])
    with pytest.raises(IdentityError, match="cannot be read"):
        load(state)
    (identity.folder / "identity.json").write_bytes(whole)
    identity.key_path.unlink()
    with pytest.raises(IdentityError, match=r"key\.pem is missing"):
        load(state)


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".key.pem.new").symlink_to(victim)
    files.write_atomically(tmp_path / "key.pem", b"secret", mode=0o600)
    assert victim.read_text() == "mine"
    assert (tmp_path / "key.pem").read_bytes() == b"secret"
