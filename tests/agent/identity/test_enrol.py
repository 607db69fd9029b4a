"""Enrolment: the right controller or nobody, one key for ever, and one clear sentence else."""

from __future__ import annotations

import dataclasses
import re
import stat
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from simulators.enrolment_api import DEVICE, DIRECTOR_ROOT, IMAGE_ROOT, EnrolmentApi
from sprat_agent.identity import files, keys
from sprat_agent.identity.enrol import (
    AlreadyEnrolledError,
    Choices,
    EnrolmentError,
    enrol,
)
from sprat_agent.identity.identity import Identity, IdentityError, load
from sprat_proto.claim import parse

PLAIN = Choices(hardware_id="cpu-x86_64")


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


def refusal(url: str, token: str, state: Path, choices: Choices = PLAIN) -> str:
    """Return the one sentence that enrolment ends with."""
    with pytest.raises(EnrolmentError) as caught:
        enrol(url, token, state, choices)
    return str(caught.value)


def enrolled(api: EnrolmentApi, state: Path, choices: Choices = PLAIN) -> Identity:
    return enrol(api.url, api.token, state, choices)


def test_an_enrolled_device_knows_who_it_is_and_whom_it_trusts(
    api: EnrolmentApi, state: Path
) -> None:
    identity = enrolled(api, state)
    assert (identity.device_id, identity.group) == (DEVICE, "default")
    assert identity.controller_url == api.url
    assert (identity.grpc, identity.mqtt) == ("127.0.0.1:7771", None)
    assert identity.image_root == IMAGE_ROOT.encode()
    assert identity.director_root == DIRECTOR_ROOT.encode()
    assert load(state) == identity


def test_both_keys_are_for_their_owner_only_and_one_is_certified(
    api: EnrolmentApi, state: Path
) -> None:
    identity = enrolled(api, state)
    for path in (identity.tls_path, identity.identity_key_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(identity.folder.stat().st_mode) == 0o700
    tls, chain = keys.read_tls(identity.tls_path), identity.tls_path.read_text()
    ca = identity.ca_path.read_text()
    assert keys.why_not_certified(chain, DEVICE, tls.key, ca) is None
    assert keys.open_key(identity.identity_key_path).public_key() != tls.key.public_key()
    assert not identity.pending_key_path.exists()


def test_no_key_ever_leaves_the_device(api: EnrolmentApi, state: Path) -> None:
    enrolled(api, state)
    (asked,) = api.asked
    told = {"token", "csr", "identity_key", "audit_key", "audit_seed", "signature", "hardware_id"}
    assert set(asked) == told
    assert not any("PRIVATE" in value for value in asked.values())


def test_another_controller_does_not_get_the_secret(
    api: EnrolmentApi, state: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = EnrolmentApi(tmp_path / "other")
    said = refusal(api.url, other.token, state)
    other.close()
    assert other.desk.signer.fingerprint[:16] in said
    assert api.desk.signer.fingerprint[:16] in said
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


def test_t24_a_request_or_a_reply_that_is_lost_is_answered_by_enrolling_again(
    api: EnrolmentApi, state: Path
) -> None:
    api.lose_requests = 1
    assert "cannot be reached" in refusal(api.url, api.token, state)
    assert api.desk.devices() == []
    api.lose_replies = 2
    for _ in range(2):
        assert "cannot be reached" in refusal(api.url, api.token, state)
        with pytest.raises(IdentityError):
            load(state)
    certified = api.desk.device(DEVICE).chain_pem
    identity = enrolled(api, state)
    assert certified in identity.tls_path.read_text()
    assert api.desk.devices() == [DEVICE]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(9))
def test_t24_a_power_cut_at_any_step_is_answered_by_enrolling_again_with_the_same_keys(
    api: EnrolmentApi, state: Path, monkeypatch: pytest.MonkeyPatch, step: int, *, before: bool
) -> None:
    write, steps = files.write_atomically, iter(range(99))

    def cut(path: Path, data: bytes, *, mode: int) -> None:
        is_now = next(steps) == step
        if is_now and before:
            raise KeyboardInterrupt
        write(path, data, mode=mode)
        if is_now:
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_atomically", cut)
    with pytest.raises(KeyboardInterrupt):
        enrolled(api, state)
    monkeypatch.undo()
    try:
        identity = load(state)
    except IdentityError as error:
        assert "no enrolled device" in str(error)  # noqa: PT017 - either end is right
        identity = enrolled(api, state)
    assert identity == load(state)
    keys.read_tls(identity.tls_path)
    assert api.desk.devices() == [DEVICE]


def test_the_steps_of_enrolment_are_nine(
    api: EnrolmentApi, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the test above cuts."""
    write, names = files.write_atomically, list[str]()

    def note(path: Path, data: bytes, *, mode: int) -> None:
        names.append(path.name)
        write(path, data, mode=mode)

    monkeypatch.setattr(files, "write_atomically", note)
    enrolled(api, state)
    assert names == [
        "identity-key.pem",
        "pending-key.pem",
        "audit-key.pem",
        "audit-seed",
        "ca.pem",
        "image-root.json",
        "director-root.json",
        "tls.pem",
        "identity.json",
    ]


def test_what_the_controller_says_against_a_token_is_passed_on(
    api: EnrolmentApi, state: Path
) -> None:
    wrong = dataclasses.replace(parse(api.token), secret="w" * 43)
    said = refusal(api.url, str(wrong), state)
    assert "refused to enrol this device: this controller does not take this" in said
    assert "w" * 43 not in said


def test_an_enrolled_device_is_not_enrolled_over(api: EnrolmentApi, state: Path) -> None:
    enrolled(api, state)
    with pytest.raises(AlreadyEnrolledError, match="is enrolled already, as pond-1"):
        enrolled(api, state)
    assert len(api.asked) == 1


def test_t23_a_second_device_with_the_same_token_is_refused(
    api: EnrolmentApi, state: Path, tmp_path: Path
) -> None:
    enrolled(api, state)
    assert "was used already, with other keys" in refusal(api.url, api.token, tmp_path / "second")


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


def _no_root(reply: dict[str, Any]) -> object:
    return reply | {"image_root": None}


def _strange_root(reply: dict[str, Any]) -> object:
    return reply | {"director_root": '{"signed":{"_type":"targets"}}'}


def _other_authorities(reply: dict[str, Any]) -> object:
    return reply | {"ca": reply["certificate"]}


def _no_form(_reply: dict[str, Any]) -> object:
    return ["hello"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_name, "expected a certificate for 'pond-2', found one for"),
        (_no_name, "is no device id"),
        (_no_certificate, "expected a certificate issued by"),
        (_its_own_certificate, "expected a certificate for 'pond-1'"),
        (_no_root, "expected a root of the image repository"),
        (_strange_root, "expected TUF root metadata"),
        (_other_authorities, "its authorities"),
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


def test_a_device_that_could_trust_nothing_is_not_enrolled_and_may_try_again(
    api: EnrolmentApi, state: Path
) -> None:
    api.change = _no_root
    assert "--image-root FILE" in refusal(api.url, api.token, state)
    api.change = lambda reply: reply
    assert enrolled(api, state).image_root == IMAGE_ROOT.encode()


def test_pinned_roots_stand_in_the_place_of_those_the_controller_names(
    api: EnrolmentApi, state: Path
) -> None:
    image, director = (
        f'{{"signed":{{"_type":"root","version":{number}}}}}'.encode() for number in (7, 8)
    )
    pinned = dataclasses.replace(PLAIN, image_root=image, director_root=director)
    identity = enrolled(api, state, pinned)
    assert (identity.image_root, identity.director_root) == (image, director)
    assert load(state) == identity


@pytest.mark.parametrize("root", [b"", b"\xff", b"{}", b'{"signed":{"_type":"snapshot"}}'])
def test_a_pinned_root_that_is_none_is_refused_before_anything_is_sent(
    api: EnrolmentApi, state: Path, root: bytes
) -> None:
    pinned = dataclasses.replace(PLAIN, image_root=root)
    assert "the pinned image root" in refusal(api.url, api.token, state, pinned)
    assert api.asked == []


def test_a_device_of_other_hardware_than_the_token_asks_for_is_refused(
    api: EnrolmentApi, state: Path
) -> None:
    token = api.desk.token("arm-1", hardware_id="cpu-aarch64")
    assert "is for devices of cpu-aarch64" in refusal(api.url, token, state)


def test_a_batch_gives_each_device_its_own_name(api: EnrolmentApi, tmp_path: Path) -> None:
    token = api.desk.token(prefix="kiosk", count=2)
    states = [tmp_path / "a", tmp_path / "b"]
    assert [enrol(api.url, token, state, PLAIN).device_id for state in states] == [
        "kiosk-1",
        "kiosk-2",
    ]


def test_a_key_file_that_is_damaged_is_not_overwritten(api: EnrolmentApi, state: Path) -> None:
    folder = state / "identity"
    folder.mkdir(parents=True)
    (folder / "identity-key.pem").write_text("half a k")
    assert "expected a private key" in refusal(api.url, api.token, state)
    assert (folder / "identity-key.pem").read_text() == "half a k"


def test_a_state_folder_that_cannot_be_made_is_answered_in_words(
    api: EnrolmentApi, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal(api.url, api.token, tmp_path / "file" / "state")


def test_a_damaged_identity_is_said_to_be(api: EnrolmentApi, state: Path) -> None:
    identity = enrolled(api, state)
    whole = (identity.folder / "identity.json").read_bytes()
    (identity.folder / "identity.json").write_bytes(whole[:-9])
    with pytest.raises(IdentityError, match="cannot be read"):
        load(state)
    assert "was enrolled once" in refusal(api.url, api.token, state)
    (identity.folder / "identity.json").write_bytes(whole)
    for name in ("tls.pem", "ca.pem", "image-root.json"):
        kept = (identity.folder / name).read_bytes()
        (identity.folder / name).unlink()
        with pytest.raises(IdentityError, match=name.replace(".", r"\.")):
            load(state)
        (identity.folder / name).write_bytes(kept)


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".tls.pem.new").symlink_to(victim)
    files.write_atomically(tmp_path / "tls.pem", b"secret", mode=0o600)
    assert victim.read_text() == "mine"
    assert (tmp_path / "tls.pem").read_bytes() == b"secret"
