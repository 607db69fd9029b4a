"""The certificate authority: an offline root, and an issuer under it that signs for everybody.

Names come from the caller (for a device: from its records), never from a request. A device's
certificate is good for a client only, a server's for a server only, so that neither can play the
other. Certificates begin a day early, for devices whose clock is slow.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sprat_controller.signer.port import CertificateKind, IssuedCertificate, Revoked

ROOT_LIFE: Final = timedelta(days=3650)
ISSUER_LIFE: Final = timedelta(days=365)
DEVICE_LIFE: Final = timedelta(days=7)
SERVER_LIFE: Final = timedelta(days=397)  # what browsers accept at most
CRL_LIFE: Final = timedelta(days=7)
_EARLY: Final = timedelta(days=1)
_USAGE: Final[Mapping[CertificateKind, x509.ObjectIdentifier]] = {
    "device": ExtendedKeyUsageOID.CLIENT_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
}

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def make_root(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Return the self-signed root: what devices pin. Its name carries a part of its key."""
    public = key.public_key()
    digest = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:8]
    name = _name(f"Sprat root {digest}")
    return _authority(public, name, name, now, ROOT_LIFE, path_length=1).sign(key, SHA256())


def make_issuer(
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
) -> x509.Certificate:
    """Return the certificate of an issuer, signed by the root."""
    digest = x509.SubjectKeyIdentifier.from_public_key(public).digest.hex()[:8]
    subject = _name(f"Sprat issuer {digest}")
    builder = _authority(public, subject, root.subject, now, ISSUER_LIFE, path_length=0)
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    return builder.add_extension(by, critical=False).sign(root_key, SHA256())


@dataclass(frozen=True)
class Issuer:
    """Signs certificates and the list of those that were revoked."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def ends_at(self) -> datetime:
        """When nothing that it signed is good any more."""
        return self.certificate.not_valid_after_utc

    def certify(
        self,
        kind: CertificateKind,
        name: str,
        public: PublicKey,
        now: datetime,
        *,
        life: timedelta,
        alternatives: Sequence[str] = (),
    ) -> IssuedCertificate:
        """Return a new certificate with this issuer's behind it; it ends no later than that."""
        ends = min(_whole(now + life), self.ends_at)
        builder = (
            _dated(public, _name(name), self.certificate.subject, now, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_USAGE[kind]]), critical=False)
            .add_extension(self._identifier(), critical=False)
        )
        if alternatives:
            names = x509.SubjectAlternativeName([_general_name(one) for one in alternatives])
            builder = builder.add_extension(names, critical=False)
        leaf = builder.sign(self.key, SHA256())
        chain = leaf.public_bytes(Encoding.PEM) + self.certificate.public_bytes(Encoding.PEM)
        return IssuedCertificate(chain, f"{leaf.serial_number:x}", ends)

    def revocation_list(self, revoked: Sequence[Revoked], now: datetime) -> bytes:
        """Return the list of revoked certificates, PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(_whole(now))
            .next_update(_whole(now + CRL_LIFE))
            .add_extension(self._identifier(), critical=False)
            .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        )
        for one in revoked:
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(int(one.serial, 16))
                .revocation_date(_whole(one.at))
                .build()
            )
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())


def _authority(
    public: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    by: x509.Name,
    now: datetime,
    life: timedelta,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        _dated(public, subject, by, now, _whole(now + life))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
    )


def _dated(
    public: PublicKey, subject: x509.Name, by: x509.Name, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_whole(now - _EARLY))
        .not_valid_after(ends)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _whole(moment: datetime) -> datetime:
    """Return the moment in whole seconds: certificates have no more."""
    return moment.replace(microsecond=0)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
