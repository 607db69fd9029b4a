from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from simulators.signing_desk import NOW, Desk
from sprat_controller.errors import StartupError
from sprat_controller.fleet.ca import (
    CONTROLLER_NAME,
    KeyPair,
    Root,
    certified,
    key_sha256_of_certificate,
)
from sprat_controller.signer.limits import Limits


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, Limits(server_names=frozenset({"localhost", "127.0.0.1"})))


def verify_server(desk: Desk, pair: KeyPair, name: str) -> None:
    leaf, *chain = x509.load_pem_x509_certificates(pair.certificate_pem)
    trusting = PolicyBuilder().store(Store([desk.root])).time(NOW)
    trusting.build_server_verifier(x509.DNSName(name)).verify(leaf, chain)


def test_a_server_is_good_under_the_root_for_its_names_and_no_others(desk: Desk) -> None:
    pair = certified(desk.core, "server", "localhost", ["localhost", "127.0.0.1"])
    verify_server(desk, pair, "localhost")
    with pytest.raises(VerificationError):
        verify_server(desk, pair, "elsewhere")
    key = load_pem_private_key(pair.key_pem, None)
    leaf = x509.load_pem_x509_certificate(pair.certificate_pem)
    assert key.public_key() == leaf.public_key()


def test_a_client_of_ours_cannot_play_the_server(desk: Desk) -> None:
    with pytest.raises(VerificationError):
        verify_server(desk, certified(desk.core, "client", CONTROLLER_NAME), CONTROLLER_NAME)


def test_what_the_signer_refuses_stops_the_start_with_its_reason(desk: Desk) -> None:
    with pytest.raises(StartupError, match="elsewhere no certificate: expected names that this"):
        certified(desk.core, "server", "elsewhere", ["elsewhere"])


def test_each_certificate_is_of_a_new_key(desk: Desk) -> None:
    pairs = [certified(desk.core, "client", CONTROLLER_NAME) for _ in range(2)]
    assert len({key_sha256_of_certificate(one.certificate_pem) for one in pairs}) == 2


def test_the_fingerprint_is_the_hash_of_the_roots_certificate(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(desk.root_pem)
    root = Root.load(path)
    der = ssl.PEM_cert_to_DER_cert(root.certificate_pem.decode())
    assert root.fingerprint == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("content", [b"", b"x", None])
def test_a_root_that_is_none_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupError, match=r"ca\.pem as `sprat-controller init` makes it"):
        Root.load(path)
