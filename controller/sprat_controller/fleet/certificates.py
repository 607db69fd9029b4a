"""What is kept of each certificate of a device, and having one issued by the signer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sql
from sqlmodel import Session, col

from sprat_controller.errors import DeniedError, UnavailableError
from sprat_controller.fleet.keys import Csr
from sprat_controller.signer.port import (
    CertificateRequest,
    IssuedCertificate,
    Signer,
    SignerError,
    SignerRefusedError,
    SignerUnavailableError,
)
from sprat_controller.store.tables import Device, DeviceCertificate

# A copy of a disk is known by a certificate for so long after the certificate's end.
REMEMBERED: Final = timedelta(days=365)


@dataclass(frozen=True)
class Given:
    """What a device gets: its name and its certificate with the chain to the root, PEM."""

    device_id: str
    group: str
    chain_pem: str


def issue(signer: Signer, device_id: str, csr: Csr) -> IssuedCertificate:
    """Return a certificate for the device.

    Raises:
        DeniedError: `signer_refused`.
        UnavailableError: `signer_unavailable`: nothing was issued that anybody has.
    """
    try:
        return signer.issue_certificate(CertificateRequest("device", device_id, csr.pem))
    except SignerRefusedError as error:
        raise DeniedError(
            "signer_refused",
            f"the signer gives {device_id} no certificate: {error.message}",
            {"signer": error.code},
        ) from error
    except SignerUnavailableError as error:
        raise UnavailableError(
            "signer_unavailable", f"no certificate can be issued now: {error.message}; try again"
        ) from error


def keep(
    session: Session,
    device: Device,
    issued: IssuedCertificate,
    *,
    key_sha256: str,
    follows: str | None,
    now: datetime,
) -> None:
    """Make the certificate the newest of the device, and forget those that ended long ago.

    Args:
        session: An open `Database.transaction()`.
        device: Whose it is.
        issued: The certificate.
        key_sha256: Of the key that it certifies.
        follows: Serial of the certificate that the device has until now; None: it has none.
        now: The caller's clock.
    """
    device.serial, device.key_sha256 = issued.serial, key_sha256
    device.certificate_ends_at = issued.not_after
    device.chain_pem = issued.chain_pem.decode()
    device.newest_used_at = None
    session.flush()  # the row below refers to the device
    session.add(
        DeviceCertificate(
            device_id=device.id,
            serial=issued.serial,
            follows=follows,
            key_sha256=key_sha256,
            issued_at=now,
            ends_at=issued.not_after,
        )
    )
    session.connection().execute(
        sql.delete(DeviceCertificate).where(
            col(DeviceCertificate.device_id) == device.id,
            col(DeviceCertificate.ends_at) < now - REMEMBERED,
            col(DeviceCertificate.serial) != (follows or ""),
        )
    )


def revoke(signer: Signer, device_id: str, serials: Sequence[str]) -> None:
    """Have the signer refuse the device from now on, and list its certificates.

    Raises:
        UnavailableError: `signer_unavailable`: the rows alone keep the device out until the device
            is removed once more.
    """
    try:
        signer.revoke(device_id, serials)
    except SignerError as error:
        raise UnavailableError(
            "signer_unavailable",
            f"{device_id} was removed here, but the signer was not told: {error.message}; remove it"
            " once more",
        ) from error


def serials_to_revoke(session: Session, device_id: str, now: datetime) -> list[str]:
    """Return the serials of the device's certificates that have not ended by themselves."""
    statement = (
        sql.select(col(DeviceCertificate.serial))
        .where(col(DeviceCertificate.device_id) == device_id, col(DeviceCertificate.ends_at) > now)
        .order_by(col(DeviceCertificate.serial))
    )
    return list(session.connection().execute(statement).scalars())
