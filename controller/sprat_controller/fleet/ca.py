"""The controller's own certificates, and the root that devices trust it by.

Keys of the authority are elsewhere: the root's is offline, the issuer's in the signer
(`sprat_controller.signer`). Here is the root's certificate, and asking for certificates of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from sprat_proto import acknowledgement

from sprat_controller.errors import StartupError
from sprat_controller.signer.port import CertificateKind, CertificateRequest, Signer, SignerError

# The controller's own name at a broker; no device may have it.
CONTROLLER_NAME: Final = acknowledgement.CONTROLLER_NAME


@dataclass(frozen=True)
class KeyPair:
    """A certificate with its chain up to (not including) the root, and its key; PEM."""

    certificate_pem: bytes
    key_pem: bytes


@dataclass(frozen=True)
class Root:
    """The authority's root: what devices pin."""

    certificate_pem: bytes
    fingerprint: str  # hex SHA-256 of its DER form, as it stands in claim tokens

    @classmethod
    def load(cls, path: Path) -> Root:
        """Read the root's certificate.

        Raises:
            StartupError: It is not there, or no certificate.
        """
        try:
            pem = path.read_bytes()
            der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        except (OSError, ValueError) as error:
            raise StartupError(
                "ca_unreadable",
                f"expected the root's certificate in {path} as `sprat-controller init` makes it:"
                f" {error}",
            ) from error
        return cls(pem, hashlib.sha256(der).hexdigest())


def certified(
    signer: Signer, kind: CertificateKind, name: str, alternatives: Sequence[str] = ()
) -> KeyPair:
    """Make a key for a part of the controller and have it certified. Blocking.

    Raises:
        StartupError: The signer does not issue the certificate; its reason is in the sentence.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    request = CertificateRequest(
        kind, name, csr.public_bytes(Encoding.PEM), alternatives=tuple(alternatives)
    )
    try:
        issued = signer.issue_certificate(request)
    except SignerError as error:
        raise StartupError(
            "no_certificate", f"the signer gives {name} no certificate: {error.message}"
        ) from error
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(issued.chain_pem, private)


def key_sha256(holder: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Return the hex SHA-256 of the public key (SubjectPublicKeyInfo, DER) it holds.

    It is equal for a device's CSR and for every certificate made from it.
    """
    public = holder.public_key()
    return hashlib.sha256(
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def key_sha256_of_certificate(pem: bytes) -> str:
    """Return `key_sha256` of a certificate in PEM."""
    return key_sha256(x509.load_pem_x509_certificate(pem))
