"""Keys in a real PKCS#11 token (SoftHSM)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# python-pkcs11 has no complete type stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateImportUsage=false
import pkcs11
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pkcs11.util.ec import encode_named_curve_parameters
from simulators.device_keys import csr_of, new_key
from simulators.signing_desk import NOW, assigned, targets
from sprat_controller.signer.authority import make_issuer, make_root
from sprat_controller.signer.core import Keys, SignerCore
from sprat_controller.signer.hsm import HsmKey
from sprat_controller.signer.keys import KeyUnusableError, Place, open_key, parse_pkcs11, tuf_signer
from sprat_controller.signer.port import CertificateRequest
from sprat_controller.signer.records import Records
from sprat_controller.trust.words import read
from tuf.api.metadata import Root, Targets

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"),
    Path("/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"),
)
PIN = "1234"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A token with three keys; SoftHSM reads its settings once a process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    patch = pytest.MonkeyPatch()
    patch.setenv("SOFTHSM2_CONF", str(settings))
    subprocess.run(
        [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "sprat",
            "--pin",
            PIN,
            "--so-pin",
            PIN,
        ],
        check=True,
        capture_output=True,
    )
    found = str(next(path for path in MODULES if path.exists()))
    library = pkcs11.lib(found)
    library.reinitialize()
    with library.get_token(token_label="sprat").open(rw=True, user_pin=PIN) as session:
        for label in ("director", "image", "issuer"):
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
                local=True,
            )
            parameters.generate_keypair(store=True, label=label)
    return found


def place(module: str, label: str, pin: str = PIN) -> Place:
    uri = f"pkcs11:token=sprat;object={label}?module-path={module}&pin-value={pin}"
    return Place(uri, Path(), None)


def test_all_online_keys_may_be_in_a_token(module: str, tmp_path: Path) -> None:
    director, image, issuer = (open_key(place(module, n)) for n in ("director", "image", "issuer"))
    assert isinstance(issuer, ec.EllipticCurvePrivateKey)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = make_root(root_key, NOW)
    certificate = make_issuer(root, root_key, issuer.public_key(), NOW)
    keys = Keys(director, image, issuer, certificate)
    core = SignerCore(keys, Records(tmp_path / "signer.db"), lambda: NOW)
    plan = read(core.issue_plan(assigned(), targets(assigned())).targets, Targets, "targets")
    trusting = Root(expires=NOW, consistent_snapshot=False)
    trusting.add_key(tuf_signer(director).public_key, "targets")
    trusting.verify_delegate("targets", plan.signed_bytes, plan.signatures)
    request = CertificateRequest("device", "gw-1", csr_of(new_key()).encode())
    leaf, by = x509.load_pem_x509_certificates(core.issue_certificate(request).chain_pem)
    leaf.verify_directly_issued_by(by)
    by.verify_directly_issued_by(root)
    assert x509.load_pem_x509_crl(core.revocation_list()).is_signature_valid(issuer.public_key())


def test_the_key_never_leaves_its_token(module: str) -> None:
    key = open_key(place(module, "director"))
    assert isinstance(key, HsmKey)
    with pytest.raises(ValueError, match="never shows it"):
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="never shows it"):
        key.private_numbers()
    signature = key.sign(b"data", ec.ECDSA(SHA256()))
    key.public_key().verify(signature, b"data", ec.ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, b"other", ec.ECDSA(SHA256()))


def test_a_key_that_is_not_there_is_one_sentence(module: str) -> None:
    with pytest.raises(KeyUnusableError, match="'nobody' cannot be had from the token 'sprat'"):
        open_key(place(module, "nobody"))


def test_a_wrong_pin_is_one_sentence(module: str) -> None:
    # In a process of its own: one that is logged in already is not asked again.
    uri = place(module, "director", "wrong").uri
    program = (
        "from pathlib import Path; from sprat_controller.signer.keys import *\n"
        f"try: open_key(Place({uri!r}, Path(), None))\n"
        "except KeyUnusableError as error: print(error)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "'director' cannot be had from the token 'sprat': PinIncorrect" in ended.stdout


def test_a_uri_is_taken_apart_as_rfc_7512_has_it(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("77\n")
    found = parse_pkcs11(
        f"pkcs11:token=My%20token;object=k?module-path=/m.so&pin-source=file:{tmp_path / 'pin'}"
    )
    assert (found.token, found.label, found.module, found.pin) == ("My token", "k", "/m.so", "77")
    for wrong in ("pkcs11:", "pkcs11:token=a", "pkcs11:object=a?module-path=/m.so"):
        with pytest.raises(KeyUnusableError, match="expected pkcs11:token=NAME;object=NAME"):
            parse_pkcs11(wrong)
