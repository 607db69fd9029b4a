"""Replacing the signer's keys: whole at every step, and the former issuer still counts."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

# pyright: reportPrivateImportUsage=false
from simulators import device_keys
from simulators.signer_folder import SignerMade
from simulators.signing_desk import NOW, assigned, targets
from sprat_controller.errors import StartupError
from sprat_controller.signer.folder import DIRECTOR, IMAGE, ISSUER, LOG
from sprat_controller.signer.keys import tuf_key
from sprat_controller.signer.main import main
from sprat_controller.signer.port import CertificateRequest, SignerRefusedError
from sprat_controller.signer.rotation import new_key, use_key
from sprat_controller.trust.words import read
from sprat_proto import notes
from sprat_proto.notes import VerifierKey
from tuf.api.metadata import Targets


@pytest.fixture
def made(tmp_path: Path) -> SignerMade:
    return SignerMade(tmp_path)


class PowerCutError(Exception):
    """The process is gone here."""


def cut_power_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let so many files be renamed, and no more."""
    real, left = os.replace, [steps]

    def rename(source: Path, target: Path) -> Path:
        if left[0] == 0:
            raise PowerCutError
        left[0] -= 1
        real(source, target)
        return target

    monkeypatch.setattr(Path, "replace", rename)


@pytest.mark.parametrize("steps", range(5))
def test_a_power_cut_while_an_issuer_is_replaced_is_gone_on_from(
    made: SignerMade, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    public = new_key(made.folder, ISSUER).read_bytes()
    made.certify_next_issuer()
    with monkeypatch.context() as patch:
        cut_power_after(patch, steps)
        with pytest.raises(PowerCutError):
            use_key(made.folder, ISSUER)
    use_key(made.folder, ISSUER)
    certificate = x509.load_pem_x509_certificate(made.folder.issuer_certificate.read_bytes())
    certificate.verify_directly_issued_by(made.root)
    assert (made.folder.path / "ca-issuer.pub").read_bytes() == public
    made.folder.open(lambda: NOW).close()
    assert not list(made.folder.path.glob("*.next*"))


def test_two_issuers_are_in_use_at_once_and_revoke_what_each_has_signed(made: SignerMade) -> None:
    before = made.folder.open(lambda: NOW)
    csr = device_keys.csr_of(device_keys.new_key()).encode()
    old = before.issue_certificate(CertificateRequest("device", "gw-1", csr))
    before.close()
    new_key(made.folder, ISSUER)
    made.certify_next_issuer()
    use_key(made.folder, ISSUER)
    core = made.folder.open(lambda: NOW)
    new = core.issue_certificate(CertificateRequest("device", "gw-2", csr))
    core.revoke("gw-1", [old.serial])
    core.revoke("gw-2", [new.serial])
    issuers = [x509.load_pem_x509_certificates(one.chain_pem)[1] for one in (new, old)]
    assert issuers[0].subject != issuers[1].subject
    end = b"-----END X509 CRL-----\n"
    lists = [part + end for part in core.revocation_list().split(end) if part]
    for issuer, pem in zip(issuers, lists, strict=True):
        crl = x509.load_pem_x509_crl(pem)
        public = issuer.public_key()
        assert crl.is_signature_valid(public)  # pyright: ignore[reportArgumentType] - P-256, as made
        assert {f"{one.serial_number:x}" for one in crl} == {old.serial, new.serial}
    core.close()
    late = made.folder.open(lambda: NOW + timedelta(days=365))
    assert late.revocation_list().count(end) == 1
    with pytest.raises(SignerRefusedError, match="the issuer's certificate ended on 2027-11-25"):
        late.issue_certificate(CertificateRequest("device", "gw-3", csr))
    late.close()


def test_no_certificate_outlives_its_issuer(made: SignerMade) -> None:
    late = made.folder.open(lambda: NOW + timedelta(days=363))
    csr = device_keys.csr_of(device_keys.new_key()).encode()
    issued = late.issue_certificate(CertificateRequest("device", "gw-1", csr))
    assert issued.not_after == NOW + timedelta(days=365)
    late.close()


def test_a_certificate_of_another_key_is_not_taken(made: SignerMade) -> None:
    new_key(made.folder, ISSUER)
    with pytest.raises(StartupError, match="sprat trust certify-issuer"):
        use_key(made.folder, ISSUER)
    following = made.folder.path / "ca-issuer.next.crt.pem"
    following.write_bytes(made.root.public_bytes(Encoding.PEM))
    with pytest.raises(StartupError, match="not of the next key"):
        use_key(made.folder, ISSUER)
    following.write_bytes(b"half of it")
    with pytest.raises(StartupError, match="expected a certificate in"):
        use_key(made.folder, ISSUER)
    made.folder.open(lambda: NOW).close()


def signing_key(made: SignerMade) -> str:
    core = made.folder.open(lambda: NOW)
    plan = core.issue_plan(assigned(), targets(assigned()))
    core.close()
    (key_id,) = read(plan.targets, Targets, "targets").signatures
    return key_id


def test_the_next_key_signs_only_once_it_is_used(made: SignerMade) -> None:
    before = signing_key(made)
    public = new_key(made.folder, DIRECTOR).read_text()
    assert signing_key(made) == before
    use_key(made.folder, DIRECTOR)
    assert signing_key(made) == tuf_key(public).keyid != before
    assert made.folder.key_file("director-online.old").exists()


def log_keys(made: SignerMade) -> tuple[VerifierKey, set[bytes]]:
    """Return the audit log's key, and which keys sign a checkpoint."""
    core = made.folder.open(lambda: NOW)
    signed = core.log_signed()
    proof: list[bytes] = []
    note = notes.read_note(
        core.sign_checkpoint(1, bytes(32) if signed is None else signed[1], proof)
    )
    key = notes.read_key(core.log_state().vkey)
    core.close()
    return key, {one.key_id for one in note.signatures}


def test_the_audit_logs_former_key_signs_as_well_until_it_is_forgotten(made: SignerMade) -> None:
    first, by = log_keys(made)
    assert by == {first.key_id}
    new_key(made.folder, LOG)
    assert log_keys(made) == (first, by)
    use_key(made.folder, LOG)
    second, by = log_keys(made)
    assert (second.name, by) == (first.name, {first.key_id, second.key_id})
    assert main(["forget-key", LOG, "--data", str(made.folder.path)]) == 0
    assert log_keys(made) == (second, {second.key_id})


@pytest.mark.parametrize("steps", range(4))
def test_a_power_cut_while_the_audit_logs_key_is_replaced_is_gone_on_from(
    made: SignerMade, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    first, _ = log_keys(made)
    new_key(made.folder, LOG)
    with monkeypatch.context() as patch:
        cut_power_after(patch, steps)
        with contextlib.suppress(PowerCutError):
            use_key(made.folder, LOG)
    if made.folder.key_file(f"{LOG}.next").exists():
        use_key(made.folder, LOG)
    second, by = log_keys(made)
    assert first != second
    assert by == {first.key_id, second.key_id}


def test_without_a_former_key_there_is_nothing_to_forget(
    made: SignerMade, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forget-key", LOG, "--data", str(made.folder.path)]) == 1
    assert "audit-log.old.pem cannot be removed: No such file" in capsys.readouterr().err


def test_a_next_key_is_never_made_over_another(made: SignerMade) -> None:
    new_key(made.folder, IMAGE)
    with pytest.raises(StartupError, match="is there already"):
        new_key(made.folder, IMAGE)


def test_without_a_next_key_nothing_is_changed(
    made: SignerMade, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made.folder.key_file(IMAGE).read_bytes()
    assert main(["use-key", IMAGE, "--data", str(made.folder.path)]) == 1
    assert "make it with `sprat-signer new-key image-online`" in capsys.readouterr().err
    assert made.folder.key_file(IMAGE).read_bytes() == before
