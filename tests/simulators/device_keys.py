"""What a device brings to the controller: its keys and what they sign; and a plain issuer."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from sprat_controller.fleet import enrolment, renewal
from sprat_controller.signer.authority import (
    DEVICE_LIFE,
    Issuer,
    PublicKey,
    make_issuer,
    make_root,
)
from sprat_controller.signer.port import (
    CertificateRequest,
    IssuedCertificate,
    IssuedPlan,
    PlannedTarget,
    SignedTimestamp,
    SignerUnavailableError,
)
from sprat_proto import claim
from sprat_proto.assignment import Assignment
from sprat_proto.audit_seal import KEY_BYTES
from sprat_proto.identity import enrolment_statement, renewal_statement, serial_text

AnyKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr_of(key: AnyKey, name: str = "", *extensions: x509.ExtensionType) -> str:
    """Return a request, with whatever a hostile device may want in it."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def public_pem(key: AnyKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass
class DeviceKeys:
    """An identity key and a TLS key; another one of them is another device's, or a copy's."""

    identity: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    tls: AnyKey = field(default_factory=new_key)
    hardware_id: str = "cpu-x86_64"
    audit: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    audit_seed: bytes = field(default_factory=lambda: os.urandom(KEY_BYTES))

    def enrolment(self, token: str, csr: str | None = None) -> enrolment.Request:
        """Return a request to enrol; `csr` stands in for the one of the TLS key."""
        csr_pem = csr or csr_of(self.tls)
        identity = public_pem(self.identity)
        statement = enrolment_statement(
            secret_sha256=claim.parse(token).secret_sha256,
            csr_pem=csr_pem,
            identity_key_pem=identity,
            audit_key_pem=public_pem(self.audit),
            audit_seed=self.audit_seed,
        )
        return enrolment.Request(
            token=token,
            csr_pem=csr_pem,
            identity_key_pem=identity,
            audit_key_pem=public_pem(self.audit),
            audit_seed=self.audit_seed,
            signature=self.sign(statement),
            hardware_id=self.hardware_id,
        )

    def renewal(self, device_id: str, serial: str, csr: str) -> renewal.Request:
        statement = renewal_statement(device_id=device_id, serial=serial, csr_pem=csr)
        return renewal.Request(device_id, serial, csr, self.sign(statement))

    def sign(self, statement: bytes) -> bytes:
        return self.identity.sign(statement, ec.ECDSA(SHA256()))


def enrolment_json(token: str, keys: DeviceKeys | None = None) -> dict[str, str]:
    """Return what a device, by default a new one, posts to be enrolled."""
    request = (keys or DeviceKeys()).enrolment(token)
    return {
        "token": request.token,
        "csr": request.csr_pem,
        "identity_key": request.identity_key_pem,
        "audit_key": request.audit_key_pem,
        "audit_seed": base64.b64encode(request.audit_seed).decode(),
        "signature": base64.b64encode(request.signature).decode(),
        "hardware_id": request.hardware_id,
    }


def renewal_json(request: renewal.Request) -> dict[str, str]:
    return {
        "device_id": request.device_id,
        "serial": request.serial,
        "csr": request.csr_pem,
        "signature": base64.b64encode(request.signature).decode(),
    }


class PlainIssuer:
    """A `Signer` that only certifies, by the clock of the test, and is away when a test says so."""

    def __init__(self, clock: Callable[[], datetime], life: timedelta = DEVICE_LIFE) -> None:
        self._clock = clock
        self._life = life
        self._root_key, self._key = new_key(), new_key()
        self.root = make_root(self._root_key, clock())
        self.is_away = False
        self.revoked: list[tuple[str, Sequence[str]]] = []

    @property
    def root_pem(self) -> str:
        return self.root.public_bytes(Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        return self.root.fingerprint(SHA256()).hex()

    def issue_certificate(self, request: CertificateRequest) -> IssuedCertificate:
        if self.is_away:
            raise SignerUnavailableError("signer_away", "the signer is away")
        public = x509.load_pem_x509_csr(request.csr_pem).public_key()
        assert isinstance(public, PublicKey)
        return self._issuer().certify(
            request.kind,
            request.name,
            public,
            self._clock(),
            life=self._life,
            alternatives=request.alternatives,
        )

    def _issuer(self) -> Issuer:
        """Return the issuer, certified anew by the root: tests go on for years."""
        public = self._key.public_key()
        return Issuer(make_issuer(self.root, self._root_key, public, self._clock()), self._key)

    def revoke(self, device_id: str, serials: Sequence[str]) -> None:
        if self.is_away:
            raise SignerUnavailableError("signer_away", "the signer is away")
        self.revoked.append((device_id, serials))

    def issue_plan(self, assignment: Assignment, targets: Sequence[PlannedTarget]) -> IssuedPlan:
        raise NotImplementedError

    def sign_timestamp(self, roles: Mapping[str, int]) -> SignedTimestamp:
        raise NotImplementedError

    def revocation_list(self) -> bytes:
        raise NotImplementedError


def certificate_of(chain_pem: str) -> x509.Certificate:
    """Return the leaf of a chain."""
    return x509.load_pem_x509_certificates(chain_pem.encode())[0]


def name_in(chain_pem: str) -> str:
    (name,) = certificate_of(chain_pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def serial_in(chain_pem: str) -> str:
    return serial_text(certificate_of(chain_pem).serial_number)
