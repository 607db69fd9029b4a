"""What a device's identity key signs, to the byte: the same on both sides. Pure.

The identity key lives as long as the device and is never used for TLS; each statement begins with
what it is for, so that a signature made for one purpose can never serve another. A request to
certify a TLS key (PKCS#10) is signed by that key itself, which proves that the device holds it.

A renewal names the certificate that it follows instead of a time: devices have wrong clocks, and a
request that is replayed brings the replayer nothing but a certificate for a key that he lacks.
"""

from __future__ import annotations

from typing import Final

from sprat_proto import canonical

MAX_CSR_BYTES: Final = 16_384
MAX_KEY_BYTES: Final = 4_096
_ENROLMENT: Final = b"sprat-enrol-v2\0"
_RENEWAL: Final = b"sprat-renew-v1\0"


def enrolment_statement(
    *,
    secret_sha256: str,
    csr_pem: str,
    identity_key_pem: str,
    audit_key_pem: str,
    audit_seed: bytes,
) -> bytes:
    """Return what is signed to redeem a claim.

    Args:
        secret_sha256: Of the claim's secret, hex.
        csr_pem: The request for the TLS key, as it is sent.
        identity_key_pem: The identity key's public half, as it is sent.
        audit_key_pem: The same of the key that signs the audit log's checkpoints.
        audit_seed: What the seals of its records begin with, see `audit_seal`.
    """
    return _ENROLMENT + canonical.encode(
        {
            "token_sha256": secret_sha256,
            "csr_sha256": canonical.sha256_hex(csr_pem.encode()),
            "identity_key_sha256": canonical.sha256_hex(identity_key_pem.encode()),
            "audit_key_sha256": canonical.sha256_hex(audit_key_pem.encode()),
            "audit_seed_sha256": canonical.sha256_hex(audit_seed),
        }
    )


def renewal_statement(*, device_id: str, serial: str, csr_pem: str) -> bytes:
    """Return what is signed to renew a certificate.

    Args:
        device_id: Who renews.
        serial: Of the certificate that the device has, see `serial_text`.
        csr_pem: The request for a new TLS key, as it is sent.
    """
    return _RENEWAL + canonical.encode(
        {
            "device_id": device_id,
            "serial": serial,
            "csr_sha256": canonical.sha256_hex(csr_pem.encode()),
        }
    )


def serial_text(serial: int) -> str:
    """Return a certificate's serial number as it stands in messages and rows: lower-case hex."""
    return f"{serial:x}"
