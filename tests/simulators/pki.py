"""A certificate authority without scruples: any name, any dates, lists of what it revoked.

The real one (`sprat_controller.signer`) refuses what tests of hostile certificates need.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sprat_controller.fleet.ca import KeyPair

NOW: Final = datetime.now(UTC)  # noqa: TID251 - TLS judges certificates by the real clock
DAY: Final = timedelta(days=1)
LOOPBACK: Final = (x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost"))
_CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH


class Pki:
    """A root, and an issuer under it that certifies everybody."""

    def __init__(self, name: str = "test") -> None:
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.root = _authority(f"{name} root", f"{name} root", self._root_key, self._root_key)
        self.issuer = _authority(f"{name} issuer", f"{name} root", self._key, self._root_key)
        self._revoked: list[int] = []

    @property
    def root_pem(self) -> bytes:
        """What devices pin."""
        return self.root.public_bytes(Encoding.PEM)

    @property
    def ca_pem(self) -> bytes:
        """Root and issuer, as a broker has them."""
        return self.root_pem + self.issuer.public_bytes(Encoding.PEM)

    def server(self, name: str = "127.0.0.1") -> KeyPair:
        """Return what a server on this machine shows."""
        return self._leaf(name, _SERVER, NOW - DAY, NOW + 7 * DAY)

    def client(
        self, name: str, *, begins: datetime = NOW - DAY, ends: datetime = NOW + 7 * DAY
    ) -> KeyPair:
        """Return what a client of any name shows: its certificate, the issuer's, its key."""
        return self._leaf(name, _CLIENT, begins, ends)

    def revoke(self, revoked: KeyPair) -> None:
        """Have the certificate in every later list."""
        self._revoked.append(x509.load_pem_x509_certificate(revoked.certificate_pem).serial_number)

    def revocation_list(self, at: datetime = NOW, *, life: timedelta = 7 * DAY) -> bytes:
        """Return the list of what was revoked, made at a moment, good for `life`."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.issuer.subject)
            .last_update(at)
            .next_update(at + life)
            .add_extension(_key_of(self._key), critical=False)
            .add_extension(x509.CRLNumber(int(at.timestamp())), critical=False)
        )
        for serial in self._revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)

    def _leaf(
        self, name: str, purpose: x509.ObjectIdentifier, begins: datetime, ends: datetime
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self.issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(LOOPBACK), critical=False)
            .add_extension(_key_of(self._key), critical=False)
            .sign(self._key, SHA256())
        )
        chain = certificate.public_bytes(Encoding.PEM) + self.issuer.public_bytes(Encoding.PEM)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return KeyPair(chain, private)


def _authority(
    name: str, by: str, key: ec.EllipticCurvePrivateKey, by_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(by))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 2 * DAY)
        .not_valid_after(NOW + 365 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_signs_certificates(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_of(by_key), critical=False)
        .sign(by_key, SHA256())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_of(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
