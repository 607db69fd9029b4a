"""A signer's folder with real, encrypted keys, and the root that certified its issuer."""

from __future__ import annotations

from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)
from sprat_controller.signer.authority import make_issuer, make_root
from sprat_controller.signer.folder import DIRECTOR, IMAGE, ISSUER, Settings, SignerFolder
from sprat_controller.signer.keys import new_ed25519, new_p256

from simulators.signing_desk import NOW

PASSPHRASE = b"of a test"


class SignerMade:
    """As `init` makes it."""

    def __init__(self, path: Path) -> None:
        self.folder = SignerFolder(path)
        for name in (DIRECTOR, IMAGE):
            new_ed25519(self.folder.key_file(name), PASSPHRASE)
        issuer = new_p256(self.folder.key_file(ISSUER), PASSPHRASE)
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = make_root(self.root_key, NOW)
        self._certify(issuer.public_key(), self.folder.issuer_certificate)
        self.folder.passphrase_file.write_bytes(PASSPHRASE)
        self.folder.settings_file.write_bytes(msgspec.json.encode(Settings()))

    def write_root(self, folder: Path) -> None:
        """Write what the root's holder has: `ca-root.pem` and the certificate `ca.pem`."""
        plain = self.root_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "ca-root.pem").write_bytes(plain)
        (folder / "ca-root.pem").chmod(0o600)
        (folder / "ca.pem").write_bytes(self.root.public_bytes(Encoding.PEM))

    def certify_next_issuer(self) -> None:
        """Have the root sign what `sprat-signer new-key ca-issuer` made."""
        public = load_pem_public_key((self.folder.path / f"{ISSUER}.next.pub").read_bytes())
        assert isinstance(public, ec.EllipticCurvePublicKey)
        self._certify(public, self.folder.path / f"{ISSUER}.next.crt.pem")

    def _certify(self, public: ec.EllipticCurvePublicKey, path: Path) -> None:
        made = make_issuer(self.root, self.root_key, public, NOW)
        path.write_bytes(made.public_bytes(Encoding.PEM))
