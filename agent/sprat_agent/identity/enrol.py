"""Enrolment: a claim token and a fresh key become an identity. Blocking; run once per device.

The order matters. The controller's authority is checked against the token's fingerprint before the
secret is sent. The key is on disk before it is certified, so that a reply lost on the way, or a
power cut, is answered by running enrolment again: the controller certifies the same key once more.
`identity.json` is written last.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx
import msgspec
from sprat_proto import claim, topics
from sprat_proto.signing import KeyFileError, TrustedKey, check_public_pem

from sprat_agent.identity import files, keys
from sprat_agent.identity.identity import (
    FOLDER,
    IDENTITY_FILE,
    Identity,
    IdentityError,
    Key,
    Stored,
    from_stored,
    load,
)

TIMEOUT_S: Final = 30.0
_MAX_CA_BYTES: Final = 65_536
_MAX_ERROR_CHARACTERS: Final = 500


class EnrolmentError(Exception):
    """The device was not enrolled: one sentence for the person at the console."""


class _Reply(msgspec.Struct, frozen=True):
    device_id: str
    certificate: str
    ca: str
    assignment_key: Key
    publishers: list[Key]
    grpc: str
    mqtt: str | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    message: str
    code: str = ""


class _ErrorReply(msgspec.Struct, frozen=True):
    error: _ErrorBody


def enrol(
    controller_url: str,
    token: str,
    state_dir: Path,
    *,
    publishers: Sequence[TrustedKey] = (),
) -> Identity:
    """Make this device known to the controller and return its identity.

    Args:
        controller_url: `https://host:port` of the controller's API.
        token: The claim token, as `sprat enrolment create` printed it.
        state_dir: Where the agent keeps its files.
        publishers: The only publishers to trust; when empty, those that the controller names.

    Raises:
        EnrolmentError: Already enrolled, a malformed token, another controller than the token's,
            a controller that cannot be reached, one that refused, or nobody to trust.
    """
    url = controller_url.rstrip("/")
    _refuse_if_enrolled(state_dir)
    try:
        parsed = claim.parse(token)
    except claim.ClaimError as error:
        raise EnrolmentError(str(error)) from error
    ca_pem = _fetch_ca(url, parsed.ca_fingerprint)
    folder = state_dir / FOLDER
    try:
        files.make_private_folder(folder)
        key = keys.open_or_create(folder / keys.KEY_FILE)
        reply = _redeem(url, ca_pem, secret_token=str(parsed), csr_pem=keys.csr_pem(key))
        _check_certificate(reply, key, ca_pem)
        return _keep(folder, url, ca_pem, reply, publishers)
    except IdentityError as error:
        raise EnrolmentError(str(error)) from error
    except OSError as error:
        raise EnrolmentError(f"{folder} cannot be written: {error}") from error


def read_publisher_key(option: str) -> TrustedKey:
    """Return the key that `--publisher-key NAME=FILE` means.

    Raises:
        EnrolmentError: Another form, or not an Ed25519 public key.
    """
    name, separator, path = option.partition("=")
    if not (name and separator and path):
        raise EnrolmentError(f"expected --publisher-key NAME=FILE, found {option!r}")
    try:
        return TrustedKey(name, check_public_pem(Path(path).read_text(encoding="ascii")))
    except (OSError, UnicodeDecodeError, KeyFileError) as error:
        raise EnrolmentError(f"--publisher-key {name}: {path}: {error}") from error


def _refuse_if_enrolled(state_dir: Path) -> None:
    if not (state_dir / FOLDER / IDENTITY_FILE).exists():
        return
    try:
        found = f"{state_dir} is enrolled already, as {load(state_dir).device_id}"
    except IdentityError as error:
        found = f"{state_dir} was enrolled once: {error}"
    raise EnrolmentError(
        f"{found}; to enrol anew, stop the agent and remove {state_dir / FOLDER} first"
    )


def _fetch_ca(url: str, fingerprint: str) -> str:
    try:
        # Unverified on purpose: whom to trust is what is being learnt here, and the answer is
        # held against the fingerprint before anything secret is sent.
        response = httpx.get(
            f"{url}/enrol/ca.pem",
            verify=False,  # noqa: S501 - see above
            timeout=TIMEOUT_S,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(url, error) from error
    if not response.is_success or len(response.content) > _MAX_CA_BYTES:
        raise EnrolmentError(
            f"expected the controller's certificate at {url}/enrol/ca.pem, found status"
            f" {response.status_code}: is this the address of a Sprat controller's API?"
        )
    try:
        der = ssl.PEM_cert_to_DER_cert(response.text)
    except ValueError as error:
        raise EnrolmentError(
            f"expected a certificate in PEM form at {url}/enrol/ca.pem: {error}"
        ) from error
    found = hashlib.sha256(der).hexdigest()
    if found != fingerprint:
        raise EnrolmentError(
            f"expected the controller whose certificate has the fingerprint {fingerprint[:16]}…"
            f" (from the token), found {found[:16]}… at {url}: this is another controller, or"
            " somebody stands in between; nothing secret was sent"
        )
    return ssl.DER_cert_to_PEM_cert(der)


def _redeem(url: str, ca_pem: str, *, secret_token: str, csr_pem: str) -> _Reply:
    context = ssl.create_default_context(cadata=ca_pem)
    try:
        response = httpx.post(
            f"{url}/enrol",
            json={"token": secret_token, "csr": csr_pem},
            verify=context,
            timeout=TIMEOUT_S,
        )
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    if not response.is_success:
        raise EnrolmentError(
            f"the controller at {url} refused to enrol this device: {_reason(response)}"
        )
    try:
        return msgspec.json.decode(response.content, type=_Reply)
    except msgspec.DecodeError as error:
        raise EnrolmentError(
            f"the controller at {url} answered enrolment in another form than expected: {error}"
        ) from error


def _reason(response: httpx.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_ErrorReply).error.message
    except msgspec.DecodeError:
        # Not a Sprat error: a proxy in between, perhaps. What it said is the best that is known.
        return f"status {response.status_code}, {response.text[:_MAX_ERROR_CHARACTERS]!r}"


def _check_certificate(reply: _Reply, key: keys.PrivateKey, ca_pem: str) -> None:
    problem = (
        f"{reply.device_id[:80]!r} is no device id"
        if not topics.is_device_id(reply.device_id)
        else keys.why_not_certified(reply.certificate, reply.device_id, key, ca_pem)
    )
    if problem is not None:
        raise EnrolmentError(f"the controller's answer is refused: {problem}")


def _keep(
    folder: Path, url: str, ca_pem: str, reply: _Reply, publishers: Sequence[TrustedKey]
) -> Identity:
    pinned = [Key(key.name, key.public_pem) for key in publishers]
    if not (pinned or reply.publishers):
        # Nothing is kept but the key, so the same token redeems again with it.
        raise EnrolmentError(
            "expected at least one publisher to trust, found none: the controller knows no"
            " publisher yet; run the same command again with --publisher-key NAME=FILE, or after"
            " `sprat publishers add`"
        )
    stored = Stored(
        device_id=reply.device_id,
        controller_url=url,
        grpc=reply.grpc,
        mqtt=reply.mqtt,
        assignment_key=_checked(reply.assignment_key),
        publishers=pinned or [_checked(key) for key in reply.publishers],
    )
    files.write_atomically(folder / "ca.pem", ca_pem.encode(), mode=0o644)
    files.write_atomically(folder / "certificate.pem", reply.certificate.encode(), mode=0o644)
    encoded = msgspec.json.format(msgspec.json.encode(stored), indent=1)
    files.write_atomically(folder / IDENTITY_FILE, encoded, mode=0o600)
    return from_stored(stored, folder)


def _checked(key: Key) -> Key:
    try:
        return Key(key.name, check_public_pem(key.public_pem))
    except KeyFileError as error:
        raise EnrolmentError(
            f"the controller's answer is refused: the key {key.name!r}: {error}"
        ) from error


def _unreachable(url: str, error: Exception) -> EnrolmentError:
    return EnrolmentError(
        f"the controller at {url} cannot be reached: {error}; check the address, and that"
        " `sprat-controller init --host` named this host"
    )
