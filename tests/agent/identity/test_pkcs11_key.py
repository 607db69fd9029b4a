"""An identity key that never leaves its token: SoftHSM stands for a TPM."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from simulators.enrolment_api import DEVICE, EnrolmentApi
from sprat_agent.identity.enrol import Choices, EnrolmentError, enrol
from sprat_agent.identity.identity import IdentityError
from sprat_agent.identity.pkcs11_key import Pkcs11Key, parse
from sprat_agent.identity.renewal import renew
from sprat_controller.fleet.keys import read_identity_key

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "4321"
pytestmark = pytest.mark.skipif(
    not (Path(MODULE).exists() and shutil.which("softhsm2-util")), reason="SoftHSM is not installed"
)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A folder with a fresh token and its PIN; the module is loaded once in a process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    (folder / "pin").write_text(f"{PIN}\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    initialise = ["softhsm2-util", "--init-token", "--free", "--label", "sprat"]
    subprocess.run([*initialise, "--so-pin", "1234", "--pin", PIN], check=True, capture_output=True)
    yield folder
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


def uri(folder: Path, label: str, pin: str = "pin") -> str:
    return f"pkcs11:token=sprat;object={label}?module-path={MODULE}&pin-source={folder / pin}"


def test_a_key_is_made_once_and_signs(token: Path) -> None:
    made = Pkcs11Key(uri(token, "one"), is_new=True)
    again = Pkcs11Key(uri(token, "one"), is_new=False)
    assert made.public_pem == again.public_pem
    key = read_identity_key(again.public_pem)
    assert key.has_signed(b"statement", again.sign(b"statement"))
    assert not key.has_signed(b"another", again.sign(b"statement"))


def test_a_device_with_its_key_in_a_token_enrols_and_renews(token: Path, tmp_path: Path) -> None:
    api = EnrolmentApi(tmp_path)
    api.start()
    try:
        choices = Choices(hardware_id="cpu-x86_64", identity_key=uri(token, "two"))
        identity = enrol(api.url, api.token, tmp_path / "state", choices)
        renew(identity)
        assert not identity.identity_key_path.exists()
        assert len(api.desk.audited("device:certificate:renewed")) == 1
        assert (
            api.desk.device(DEVICE).identity_key
            == Pkcs11Key(choices.identity_key, is_new=False).public_pem
        )
    finally:
        api.stop()


def test_a_token_that_refuses_or_holds_no_key_is_said_to(token: Path) -> None:
    (token / "wrong").write_text("0000")
    with pytest.raises(IdentityError, match="cannot be used"):
        Pkcs11Key(uri(token, "one", "wrong"), is_new=True)
    with pytest.raises(IdentityError, match="cannot be used"):
        Pkcs11Key(uri(token, "one", "nowhere"), is_new=True)
    with pytest.raises(IdentityError, match="holds no key 'ghost'"):
        Pkcs11Key(uri(token, "ghost"), is_new=False)


def test_an_enrolment_with_a_token_that_is_not_there_is_answered_in_words(
    token: Path, tmp_path: Path
) -> None:
    api = EnrolmentApi(tmp_path)
    api.start()
    try:
        place = uri(token, "three").replace("token=sprat", "token=other")
        choices = Choices(hardware_id="cpu-x86_64", identity_key=place)
        with pytest.raises(EnrolmentError, match="the token 'other' cannot be used"):
            enrol(api.url, api.token, tmp_path / "state", choices)
        assert api.asked == []
    finally:
        api.stop()


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:",
        "pkcs11:token=a;object=b",
        "pkcs11:token=a;object=b?module-path=/m",
        "pkcs11:token=a;object=b?module-path=/m&pin-value=1234",
        "pkcs11:token=a;object=?module-path=/m&pin-source=/p",
    ],
)
def test_a_uri_without_a_part_is_refused_and_a_pin_in_it_not_repeated(text: str) -> None:
    with pytest.raises(IdentityError, match="pin-source=FILE") as caught:
        parse(text)
    assert "1234" not in str(caught.value)


def test_a_uri_comes_apart() -> None:
    place = parse("pkcs11:token=my%20tpm;object=id?module-path=/m.so&pin-source=file:/etc/pin")
    assert (place.token, place.label, place.module) == ("my tpm", "id", "/m.so")
    assert place.pin_file == Path("/etc/pin")
