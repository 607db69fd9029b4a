"""The next TLS certificate, in good time, or late: whenever the controller can be asked.

At two thirds of a certificate's life, give or take a little, so that a fleet that was enrolled in
an hour does not renew in one. The new key is on disk before it is shown, the new pair replaces the
old in one rename. Nothing that the device does waits for any of it: a device whose certificate
ended serves on, and asks again until it is heard.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime
from typing import Final

import msgspec
from sprat_proto.identity import renewal_statement

from sprat_agent.audit.intents import Effect, Intents
from sprat_agent.clock import Clock
from sprat_agent.errors import StateError
from sprat_agent.identity import files, identity_key, keys
from sprat_agent.identity.identity import Identity, IdentityError
from sprat_agent.identity.keys import Tls
from sprat_agent.link import backoff

SHARE: Final = 2 / 3
JITTER: Final = 1 / 20
# The clock of a device may jump: it is looked at again after so long at most.
LOOK_AGAIN_S: Final = 3600.0
_LOG = logging.getLogger(__name__)


class RenewalError(Exception):
    """There is no new certificate yet: ask again.

    Attributes:
        is_final: The controller refused, and will until a person does something.
    """

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class _Reply(msgspec.Struct, frozen=True):
    certificate: str
    ca: str


def wait_s(begins: datetime, ends: datetime, share: float, now: datetime) -> float:
    """Return the seconds until a certificate is to be renewed; 0: now. Pure.

    Args:
        begins: Of its life.
        ends: Of its life.
        share: How much of its life is to pass.
        now: The caller's clock. Before `begins` it is wrong, and nothing is due.
    """
    return max(0.0, (begins + (ends - begins) * share - now).total_seconds())


class Renewal:
    """Keeps the certificate of one device new."""

    def __init__(
        self,
        identity: Identity,
        *,
        clock: Clock,
        uniform: Callable[[float, float], float],
        on_renewed: Callable[[], None],
        intents: Intents | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare to renew.

        Args:
            identity: Whose certificate.
            clock: Judges when.
            uniform: As `random.uniform`.
            on_renewed: Called in the event loop: connections are to be made anew.
            intents: Where it is written down that there is another key; None: nowhere.
            pause: Waits so many seconds.
        """
        self._identity = identity
        self._clock = clock
        self._uniform = uniform
        self._on_renewed = on_renewed
        self._intents = intents
        self._pause = pause

    async def run(self) -> None:
        """Renew in time, for ever."""
        share, failures = self._share(), 0
        while True:
            try:
                seconds = await asyncio.to_thread(self._wait_s, share)
                if seconds > 0:
                    await self._pause(min(seconds, LOOK_AGAIN_S))
                    continue
                await asyncio.to_thread(renew, self._identity, self._intents)
            except (RenewalError, IdentityError, StateError) as error:
                failures += 1
                _LOG.warning("the certificate of this device is not renewed: %s", error)
                await self._pause(self._delay_s(error, failures))
            else:
                share, failures = self._share(), 0
                _LOG.info("this device has a new certificate")
                self._on_renewed()
                # By a clock that is years ahead the new one is due at once.
                await self._pause(LOOK_AGAIN_S)

    def _share(self) -> float:
        return SHARE + self._uniform(-JITTER, JITTER)

    def _wait_s(self, share: float) -> float:
        certificate = keys.read_tls(self._identity.tls_path).certificate
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return wait_s(begins, ends, share, self._clock())

    def _delay_s(self, error: Exception, failures: int) -> float:
        if isinstance(error, RenewalError) and error.is_final:
            return self._uniform(LOOK_AGAIN_S / 2, LOOK_AGAIN_S)
        return backoff.delay_s(failures, self._uniform)


def renew(identity: Identity, intents: Intents | None = None) -> None:
    """Ask for a new certificate once, and keep it. Blocking.

    Raises:
        RenewalError: No answer, or a refusal; or the answer does not hold together.
        IdentityError: A file or the identity key cannot be used.
        StateError: It cannot be written down that there will be another key.
    """
    try:
        tls = keys.read_tls(identity.tls_path)
        key = _next_key(identity, tls)
        reply = _ask(identity, tls, key)
        _check(identity, key, reply)
        with (
            intents.around(
                Effect.CERTIFICATE,
                f"certificate/{identity.device_id}",
                tls.serial,
                keys.serial_of(reply.certificate),
            )
            if intents
            else nullcontext()
        ):
            _keep(identity, key, reply)
    except OSError as error:
        raise RenewalError(f"{identity.folder} cannot be read or written: {error}") from error


def _next_key(identity: Identity, tls: Tls) -> keys.PrivateKey:
    """Return the key to certify: the one whose answer was lost, else a new one; it is on disk."""
    path = identity.pending_key_path
    pending = keys.open_or_create(path)
    if pending.public_key() != tls.key.public_key():
        return pending
    # The power was cut between the new pair and the removal of the key that waited for it.
    path.unlink()
    return keys.open_or_create(path)


def _ask(identity: Identity, tls: Tls, key: keys.PrivateKey) -> _Reply:
    # Imports an HTTP client, which an agent needs on few days only.
    from sprat_agent.identity import exchange  # noqa: PLC0415 - see above

    csr_pem = keys.csr_pem(key)
    statement = renewal_statement(device_id=identity.device_id, serial=tls.serial, csr_pem=csr_pem)
    signer = identity_key.open_enrolled(identity)
    body = {
        "device_id": identity.device_id,
        "serial": tls.serial,
        "csr": csr_pem,
        "signature": base64.b64encode(signer.sign(statement)).decode(),
    }
    url = f"{identity.controller_url}/enrol/renew"
    try:
        return exchange.post(url, body, identity.ca_path.read_text("ascii"), _Reply)
    except exchange.RefusedError as error:
        raise RenewalError(f"the controller refused: {error}", is_final=error.is_final) from error
    except exchange.ExchangeError as error:
        raise RenewalError(str(error)) from error


def _check(identity: Identity, key: keys.PrivateKey, reply: _Reply) -> None:
    problem = keys.why_not_certified(reply.certificate, identity.device_id, key, reply.ca)
    if problem is not None:
        raise RenewalError(f"the controller's answer is refused: {problem}")


def _keep(identity: Identity, key: keys.PrivateKey, reply: _Reply) -> None:
    if reply.ca.encode() != identity.ca_path.read_bytes():
        # Said by a controller that the old authorities vouch for: how they are replaced.
        files.write_atomically(identity.ca_path, reply.ca.encode(), mode=0o644)
    keys.write_tls(identity.tls_path, key, reply.certificate)
    identity.pending_key_path.unlink(missing_ok=True)
