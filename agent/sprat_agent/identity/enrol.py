"""Enrolment: a claim token and two fresh keys become an identity. Blocking; run once per device.

The order matters. The controller's authority is checked against the token's fingerprint before the
secret is sent. Both keys are on disk before they are shown, so that a reply lost on the way, or a
power cut at any moment, is answered by running enrolment again: the controller gives the same
certificate to the same keys. `identity.json` is written last.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from sprat_proto import claim, topics
from sprat_proto.identity import enrolment_statement
from sprat_proto.trust import MAX_ROOT_BYTES

from sprat_agent.identity import audit_keys, exchange, files, identity_key, keys
from sprat_agent.identity.exchange import ExchangeError, RefusedError
from sprat_agent.identity.identity import (
    CA_FILE,
    DIRECTOR_ROOT_FILE,
    FOLDER,
    IDENTITY_FILE,
    IMAGE_ROOT_FILE,
    PENDING_KEY_FILE,
    TLS_FILE,
    Identity,
    IdentityError,
    Stored,
    from_stored,
    load,
)
from sprat_agent.identity.identity_key import IdentityKey

_MAX_CA_BYTES: Final = 65_536


class EnrolmentError(Exception):
    """The device was not enrolled: one sentence for the person at the console."""


class AlreadyEnrolledError(EnrolmentError):
    """The device has an identity; it stays what it is."""


@dataclass(frozen=True)
class Choices:
    """What the person who enrols a device decides.

    Attributes:
        hardware_id: What the device is, see `sprat_proto.trust.hardware_id`.
        identity_key: `file`, or the PKCS#11 URI of a key.
        image_root: Pinned by hand; None: the controller's word at this first contact is taken.
        director_root: The same of the director.
    """

    hardware_id: str
    identity_key: str = identity_key.FILE
    image_root: bytes | None = None
    director_root: bytes | None = None


@dataclass(frozen=True)
class _Keys:
    """What a device is known by, for its whole life but for the TLS key."""

    identity: IdentityKey
    tls: keys.PrivateKey
    audit: Ed25519PrivateKey
    audit_seed: bytes


class _Reply(msgspec.Struct, frozen=True):
    device_id: str
    group: str
    certificate: str
    ca: str
    grpc: str
    mqtt: str | None = None
    image_root: str | None = None
    director_root: str | None = None


class _Signed(msgspec.Struct, frozen=True):
    type: str = msgspec.field(name="_type")


class _Root(msgspec.Struct, frozen=True):
    signed: _Signed


def enrol(controller_url: str, token: str, state_dir: Path, choices: Choices) -> Identity:
    """Make this device known to the controller and return its identity.

    Args:
        controller_url: `https://host:port` of the controller's API.
        token: The claim token, as `sprat enrolment create` printed it.
        state_dir: Where the agent keeps its files.
        choices: What was decided by hand.

    Raises:
        AlreadyEnrolledError: It has an identity.
        EnrolmentError: A malformed token, another controller than the token's, a controller that
            cannot be reached, one that refused, or no root to begin to trust with.
    """
    url = controller_url.rstrip("/")
    _refuse_if_enrolled(state_dir)
    for name, pinned in (("image", choices.image_root), ("director", choices.director_root)):
        if pinned is not None:
            _check_root(pinned, f"the pinned {name} root")
    try:
        claimed = claim.parse(token)
    except claim.ClaimError as error:
        raise EnrolmentError(str(error)) from error
    ca_pem = _fetch_ca(url, claimed.ca_fingerprint)
    folder = state_dir / FOLDER
    try:
        files.make_private_folder(folder)
        identity = identity_key.open_or_create(choices.identity_key, folder)
        tls = keys.open_or_create(folder / PENDING_KEY_FILE)
        own = _Keys(identity, tls, *audit_keys.open_or_create(folder))
        asked = _question(claimed, own, choices.hardware_id)
        reply = _redeem(url, ca_pem, asked)
        _check_certificate(reply, tls, ca_pem)
        return _keep(folder, url, reply, tls, choices)
    except IdentityError as error:
        raise EnrolmentError(str(error)) from error
    except OSError as error:
        raise EnrolmentError(f"{folder} cannot be written: {error}") from error


def _refuse_if_enrolled(state_dir: Path) -> None:
    if not (state_dir / FOLDER / IDENTITY_FILE).exists():
        return
    try:
        found = f"{state_dir} is enrolled already, as {load(state_dir).device_id}"
    except IdentityError as error:
        raise EnrolmentError(f"{state_dir} was enrolled once: {error}") from error
    raise AlreadyEnrolledError(
        f"{found}; to enrol anew, stop the agent and remove {state_dir / FOLDER} first"
    )


def _fetch_ca(url: str, fingerprint: str) -> str:
    """Return the one certificate that the token names, from what the controller shows."""
    try:
        # Unverified on purpose: whom to trust is what is being learnt here, and the answer is
        # held against the fingerprint before anything secret is sent.
        response = httpx.get(
            f"{url}/enrol/ca.pem",
            verify=False,  # noqa: S501 - see above
            timeout=exchange.TIMEOUT_S,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(f"the controller at {url} cannot be reached: {error}") from error
    if not response.is_success or len(response.content) > _MAX_CA_BYTES:
        raise EnrolmentError(
            f"expected the controller's certificate at {url}/enrol/ca.pem, found status"
            f" {response.status_code}: is this the address of a Sprat controller's API?"
        )
    try:
        shown = x509.load_pem_x509_certificates(response.content)
    except ValueError as error:
        raise EnrolmentError(
            f"expected a certificate in PEM form at {url}/enrol/ca.pem: {error}"
        ) from error
    found = {hashlib.sha256(one.public_bytes(Encoding.DER)).hexdigest(): one for one in shown}
    if fingerprint not in found:
        raise EnrolmentError(
            f"expected the controller whose certificate has the fingerprint {fingerprint[:16]}…"
            f" (from the token), found {', '.join(one[:16] for one in found)}… at {url}: this is"
            " another controller, or somebody stands in between; nothing secret was sent"
        )
    return found[fingerprint].public_bytes(Encoding.PEM).decode()


def _question(claimed: claim.Claim, own: _Keys, hardware_id: str) -> dict[str, str]:
    csr_pem, public_pem = keys.csr_pem(own.tls), own.identity.public_pem
    audit_pem = audit_keys.public_pem(own.audit)
    statement = enrolment_statement(
        secret_sha256=claimed.secret_sha256,
        csr_pem=csr_pem,
        identity_key_pem=public_pem,
        audit_key_pem=audit_pem,
        audit_seed=own.audit_seed,
    )
    return {
        "token": str(claimed),
        "csr": csr_pem,
        "identity_key": public_pem,
        "audit_key": audit_pem,
        "audit_seed": base64.b64encode(own.audit_seed).decode(),
        "signature": base64.b64encode(own.identity.sign(statement)).decode(),
        "hardware_id": hardware_id,
    }


def _redeem(url: str, ca_pem: str, asked: dict[str, str]) -> _Reply:
    try:
        return exchange.post(f"{url}/enrol", asked, ca_pem, _Reply)
    except RefusedError as error:
        raise EnrolmentError(
            f"the controller at {url} refused to enrol this device: {error}"
        ) from error
    except ExchangeError as error:
        raise _unreachable(str(error)) from error


def _check_certificate(reply: _Reply, tls: keys.PrivateKey, ca_pem: str) -> None:
    """Check that the answer is for this device, and by the authority that the token named."""
    problem = (
        f"{reply.device_id[:80]!r} is no device id"
        if not topics.is_device_id(reply.device_id)
        else keys.why_not_certified(reply.certificate, reply.device_id, tls, ca_pem)
    )
    if problem is not None:
        raise EnrolmentError(f"the controller's answer is refused: {problem}")


def _keep(
    folder: Path, url: str, reply: _Reply, tls: keys.PrivateKey, choices: Choices
) -> Identity:
    # When a root is missing, nothing is kept but the keys, so the same token redeems again.
    image = _root("image", choices.image_root, reply.image_root)
    director = _root("director", choices.director_root, reply.director_root)
    stored = Stored(
        device_id=reply.device_id,
        group=reply.group,
        controller_url=url,
        grpc=reply.grpc,
        mqtt=reply.mqtt,
        identity_key=choices.identity_key,
    )
    files.write_atomically(folder / CA_FILE, _authorities(reply, tls), mode=0o644)
    files.write_atomically(folder / IMAGE_ROOT_FILE, image, mode=0o644)
    files.write_atomically(folder / DIRECTOR_ROOT_FILE, director, mode=0o644)
    keys.write_tls(folder / TLS_FILE, tls, reply.certificate)
    encoded = msgspec.json.format(msgspec.json.encode(stored), indent=1)
    files.write_atomically(folder / IDENTITY_FILE, encoded, mode=0o600)
    # A cut before this leaves a key that is certified already; a renewal makes another.
    (folder / PENDING_KEY_FILE).unlink(missing_ok=True)
    return from_stored(stored, folder)


def _authorities(reply: _Reply, tls: keys.PrivateKey) -> bytes:
    """Return the authorities that the controller names, if the certificate is good by them too."""
    problem = keys.why_not_certified(reply.certificate, reply.device_id, tls, reply.ca)
    if problem is not None:
        raise EnrolmentError(f"the controller's answer is refused: its authorities: {problem}")
    return reply.ca.encode()


def _root(name: str, pinned: bytes | None, told: str | None) -> bytes:
    if pinned is not None:
        return pinned
    if told is None:
        raise EnrolmentError(
            f"expected a root of the {name} repository to begin to trust with, found none: the"
            " controller has none yet; run the same command again after `sprat-controller init` or"
            f" `sprat trust ceremony` made it, or with --{name}-root FILE"
        )
    data = told.encode()
    _check_root(data, f"the controller's {name} root")
    return data


def _check_root(data: bytes, what: str) -> None:
    """Check the form only: whether the signatures are good is judged at each use."""
    try:
        kind = msgspec.json.decode(data, type=_Root).signed.type
    except msgspec.DecodeError as error:
        raise EnrolmentError(f"expected TUF root metadata as {what}: {error}") from error
    if kind != "root" or len(data) > MAX_ROOT_BYTES:
        raise EnrolmentError(
            f"expected TUF root metadata of at most {MAX_ROOT_BYTES} bytes as {what}, found"
            f" {kind[:40]!r} of {len(data)} bytes"
        )


def _unreachable(said: str) -> EnrolmentError:
    return EnrolmentError(
        f"{said}; check the address, and that `sprat-controller init --host` named this host"
    )
