from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

# pyright: reportPrivateImportUsage=false
from simulators.signing_desk import NOW, assigned, targets
from sprat_controller.errors import StartupError
from sprat_controller.signer.authority import make_issuer, make_root
from sprat_controller.signer.folder import DIRECTOR, IMAGE, ISSUER, Settings, SignerFolder
from sprat_controller.signer.keys import new_ed25519, new_p256, tuf_key
from sprat_controller.signer.main import main
from sprat_controller.signer.rotation import new_key, use_key
from sprat_controller.trust.words import read
from tuf.api.metadata import Targets

PASSPHRASE = b"of a test"


@pytest.fixture
def folder(tmp_path: Path) -> SignerFolder:
    made = SignerFolder(tmp_path)
    for name in (DIRECTOR, IMAGE):
        new_ed25519(made.key_file(name), PASSPHRASE)
        (tmp_path / f"{name}.pub").write_bytes(b"")
    issuer = new_p256(made.key_file(ISSUER), PASSPHRASE)
    root_key = ec.generate_private_key(ec.SECP256R1())
    certificate = make_issuer(make_root(root_key, NOW), root_key, issuer.public_key(), NOW)
    made.issuer_certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    made.passphrase_file.write_bytes(PASSPHRASE)
    made.settings_file.write_bytes(msgspec.json.encode(Settings()))
    return made


def signing_key(folder: SignerFolder) -> str:
    core = folder.open(lambda: NOW)
    plan = core.issue_plan(assigned(), targets(assigned()))
    core.close()
    (key_id,) = read(plan.targets, Targets, "targets").signatures
    return key_id


def test_the_next_key_signs_only_once_it_is_used(folder: SignerFolder) -> None:
    before = signing_key(folder)
    public = new_key(folder, DIRECTOR).read_text()
    assert signing_key(folder) == before
    use_key(folder, DIRECTOR)
    assert signing_key(folder) == tuf_key(public).keyid != before
    assert folder.key_file("director-online.old").exists()


def test_a_next_key_is_never_made_over_another(folder: SignerFolder) -> None:
    new_key(folder, IMAGE)
    with pytest.raises(StartupError, match="is there already"):
        new_key(folder, IMAGE)


def test_without_a_next_key_nothing_is_changed(
    folder: SignerFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = folder.key_file(IMAGE).read_bytes()
    assert main(["use-key", IMAGE, "--data", str(folder.path)]) == 1
    assert "make it with `sprat-signer new-key image-online`" in capsys.readouterr().err
    assert folder.key_file(IMAGE).read_bytes() == before


def test_an_issuer_needs_the_roots_signature_first(folder: SignerFolder) -> None:
    new_key(folder, ISSUER)
    with pytest.raises(StartupError, match="sprat trust certify-issuer"):
        use_key(folder, ISSUER)
