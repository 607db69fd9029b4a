"""The conversation with a provider: its document, its keys, and what codes are redeemed for.

What it says of itself is kept for an hour and its keys for some minutes, so that a key that it no
longer has is worth nothing soon. A token of a key that is not known has the keys read once more,
and a stranger who sends such tokens cannot have them read without end. A provider that does not
answer is not asked by everybody who waits: for a moment all are told at once, and whoever signs in
with a password or shows a token never waits for it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote_plus

import httpx
from authlib.oauth2 import rfc7636
from authlib.oauth2.rfc6749 import parameters
from authlib.oauth2.rfc8628 import DEVICE_CODE_GRANT_TYPE

from sprat_controller.access.oidc import discovery
from sprat_controller.access.oidc.configuration import BASIC, NONE, Configuration
from sprat_controller.access.oidc.discovery import Endpoints
from sprat_controller.access.oidc.tokens import keys as jwks
from sprat_controller.access.oidc.tokens.keys import Keys
from sprat_controller.access.oidc.tokens.refusals import Reason, TokenRefusedError
from sprat_controller.errors import ProviderError, SpratError, UnavailableError
from sprat_controller.fleet.rate import Bucket, Rate, take

T = TypeVar("T")
_DOCUMENT_AGE: Final = timedelta(hours=1)
_KEYS_AGE: Final = timedelta(minutes=5)
_AGAIN: Final = Rate(burst=5, per_s=1 / 30)  # how often keys are read for a token of an unknown one
_PAUSE: Final = timedelta(seconds=2)  # after it did not answer
_TIMEOUT: Final = httpx.Timeout(10, connect=5)
_MAX_ANSWER: Final = 1 << 20
_AT_ONCE: Final = 8  # each holds one of the threads that answer everybody
_WAIT_S: Final = 5
_JSON: Final = {"accept": "application/json"}
# authlib has no types.
_oauth: Final = cast("Any", parameters)
_pkce: Final = cast("Any", rfc7636)


class GrantRefusedError(Exception):
    """The provider gives no tokens; `code` is its word for why (RFC 6749 §5.2, RFC 8628 §3.5)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Granted:
    """What a code was redeemed for."""

    id_token: str
    access_token: str | None


@dataclass(frozen=True)
class DeviceGrant:
    """A sign-in that began without a browser.

    Attributes:
        device_code: What is redeemed: a secret.
        user_code: What somebody types.
        verification_uri: Where.
        verification_uri_complete: Where, with the code in it; None: the provider has none.
        expires_in_s: How long it is good for.
        interval_s: How often it may be asked for, at most.
    """

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_in_s: int
    interval_s: int


@dataclass(frozen=True)
class _Aged:
    """What was read, and when."""

    value: Any
    at: datetime

    def is_fresh(self, age: timedelta, now: datetime) -> bool:
        return self.at <= now < self.at + age


class Provider:
    """One provider; may be used by many threads."""

    def __init__(
        self, configuration: Configuration, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Ask nothing yet.

        Args:
            configuration: Who it is.
            transport: How it is reached; None: over the network.
        """
        self._configuration = configuration
        self._http = httpx.Client(
            verify=configuration.trust,
            timeout=_TIMEOUT,
            transport=transport,
            follow_redirects=False,
            trust_env=False,
        )
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._document: _Aged | None = None
        self._keys: _Aged | None = None
        self._again: Bucket | None = None
        self._silent: tuple[datetime, SpratError] | None = None

    @property
    def configuration(self) -> Configuration:
        """What was agreed on with it."""
        return self._configuration

    def close(self) -> None:
        """End all connections."""
        self._http.close()

    def endpoints(self, now: datetime) -> Endpoints:
        """Return where it is asked what.

        Raises:
            UnavailableError: `provider_unreachable`.
            ProviderError: `provider_failed`.
        """
        with self._lock:
            return self._endpoints(now)

    def judged(self, decide: Callable[[Keys], T], now: datetime) -> T:
        """Return what is decided by the provider's keys.

        Args:
            decide: Decides about a token.
            now: The caller's clock.

        Raises:
            TokenRefusedError: As `decide` raises it.
            UnavailableError: `provider_unreachable`.
            ProviderError: `provider_failed`.
        """
        with self._lock:
            kept = self._keys
            if kept is None or not kept.is_fresh(_KEYS_AGE, now):
                kept = self._read_keys(now)
        try:
            return decide(cast("Keys", kept.value))
        except TokenRefusedError as refused:
            if refused.reason is not Reason.UNKNOWN_KEY:
                raise
            anew = self._keys_after(kept, now)
            if anew is None:
                raise
        return decide(anew)

    def authorization_url(
        self, endpoints: Endpoints, *, state: str, nonce: str, verifier: str
    ) -> str:
        """Return where a browser signs in."""
        said = self._configuration
        more: dict[str, str] = {}
        if said.max_auth_age is not None:
            more["max_age"] = str(int(said.max_auth_age.total_seconds()))
        url: str = _oauth.prepare_grant_uri(
            endpoints.authorization,
            said.client_id,
            "code",
            redirect_uri=said.redirect_uri,
            scope=" ".join(said.scopes),
            state=state,
            nonce=nonce,
            code_challenge=_pkce.create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            **more,
        )
        return url

    def redeem(self, endpoints: Endpoints, code: str, verifier: str) -> Granted:
        """Return what a browser's code is good for.

        Raises:
            GrantRefusedError: Nothing.
            UnavailableError: `provider_unreachable`.
            ProviderError: `provider_failed`.
        """
        return self._granted(
            endpoints,
            grant_type="authorization_code",
            code=code,
            redirect_uri=self._configuration.redirect_uri,
            code_verifier=verifier,
        )

    def begin_device(self, endpoint: str) -> DeviceGrant:
        """Begin a sign-in without a browser.

        Raises:
            UnavailableError: `provider_unreachable`.
            ProviderError: `provider_failed`.
        """
        scope = " ".join(self._configuration.scopes)
        try:
            said = self._post(endpoint, {"scope": scope})
        except GrantRefusedError as refused:
            raise _failed(
                f"answers {refused.code!r} to a device that wants to sign in"
            ) from refused
        complete = said.get("verification_uri_complete")
        try:
            return DeviceGrant(
                device_code=_text(said, "device_code"),
                user_code=_text(said, "user_code"),
                verification_uri=discovery.checked(said.get("verification_uri")),
                verification_uri_complete=None if complete is None else discovery.checked(complete),
                expires_in_s=_seconds(said, "expires_in", None),
                interval_s=_seconds(said, "interval", 5),
            )
        except ValueError as error:
            raise _failed(f"begins a sign-in with something else: {error}") from error

    def redeem_device(self, endpoints: Endpoints, device_code: str) -> Granted:
        """Return what a device's code is good for.

        Raises:
            GrantRefusedError: Nothing yet, or nothing at all.
            UnavailableError: `provider_unreachable`.
            ProviderError: `provider_failed`.
        """
        return self._granted(endpoints, grant_type=DEVICE_CODE_GRANT_TYPE, device_code=device_code)

    def userinfo(self, endpoint: str, access_token: str) -> Mapping[str, Any]:
        """Return what else is told of who signed in; whether it is of them, nobody checked.

        Raises:
            UnavailableError: `provider_unreachable`.
            ProviderError: `provider_failed`.
        """
        headers = {**_JSON, "authorization": f"Bearer {access_token}"}
        return self._get(endpoint, headers)

    def _endpoints(self, now: datetime) -> Endpoints:
        if self._document is None or not self._document.is_fresh(_DOCUMENT_AGE, now):
            issuer = self._configuration.issuer
            found = self._once(lambda: self._get(discovery.address(issuer), _JSON), now)
            try:
                self._document = _Aged(discovery.read(found, issuer), now)
            except ValueError as error:
                raise _failed(f"describes itself otherwise: {error}") from error
        return cast("Endpoints", self._document.value)

    def _read_keys(self, now: datetime) -> _Aged:
        address = self._endpoints(now).jwks
        found = self._once(lambda: self._get(address, _JSON), now)
        try:
            self._keys = _Aged(jwks.read(found), now)
        except ValueError as error:
            raise _failed(f"has its keys in another form: {error}") from error
        return self._keys

    def _keys_after(self, before: _Aged, now: datetime) -> Keys | None:
        """Return the keys as they are by now; None: they were read too often of late."""
        with self._lock:
            # Whoever waited for the lock may find that they were read meanwhile.
            if self._keys is not None and self._keys is not before:
                return cast("Keys", self._keys.value)
            self._again, wait_s = take(self._again, _AGAIN, now)
            return None if wait_s > 0 else cast("Keys", self._read_keys(now).value)

    def _once(self, ask: Callable[[], T], now: datetime) -> T:
        """Ask, unless it did not answer a moment ago."""
        if self._silent is not None and self._silent[0] <= now < self._silent[0] + _PAUSE:
            raise self._silent[1]
        try:
            found = ask()
        except (UnavailableError, ProviderError) as error:
            self._silent = (now, error)
            raise
        self._silent = None
        return found

    def _granted(self, endpoints: Endpoints, **asked: str) -> Granted:
        said = self._post(endpoints.token, asked)
        id_token, access_token = said.get("id_token"), said.get("access_token")
        if not isinstance(id_token, str):
            raise _failed("gives no ID token: are its `scopes` with 'openid'?")
        return Granted(id_token, access_token if isinstance(access_token, str) else None)

    def _post(self, address: str, asked: Mapping[str, str]) -> Mapping[str, Any]:
        """Ask as the client that we are; the answer is one of OAuth's."""
        said = self._configuration
        form, auth = dict(asked), None
        if said.client_auth == BASIC:
            # RFC 6749 §2.3.1: both are written as in a form first.
            auth = (quote_plus(said.client_id), quote_plus(said.client_secret or ""))
        else:
            form["client_id"] = said.client_id
            if said.client_auth != NONE:
                form["client_secret"] = said.client_secret or ""
        request = self._http.build_request("POST", address, data=form, headers=_JSON)
        status, body = self._sent(request, auth)
        found = _object(body)
        if status == HTTPStatus.OK and found is not None:
            return found
        code = found.get("error") if found is not None else None
        if not isinstance(code, str) or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _failed(f"answers {status} where it gives tokens")
        if code in ("invalid_client", "unauthorized_client", "unsupported_grant_type"):
            raise _failed(
                f"does not let the controller do this ({code}): is the client of --oidc registered"
                " there so, with this secret and redirect address, and for this way to sign in?"
            )
        raise GrantRefusedError(_plain(code))

    def _get(self, address: str, headers: Mapping[str, str]) -> Mapping[str, Any]:
        request = self._http.build_request("GET", address, headers=dict(headers))
        status, body = self._sent(request, None)
        found = _object(body)
        if status != HTTPStatus.OK or found is None:
            shown = "something else than JSON" if status == HTTPStatus.OK else str(status)
            raise _failed(f"answers {shown} at {request.url.path[:200]}")
        return found

    def _sent(self, request: httpx.Request, auth: tuple[str, str] | None) -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        try:
            with self._turn():
                answer = self._http.send(request, auth=auth, stream=True)
                try:
                    body = bytearray()
                    for piece in answer.iter_bytes():
                        body += piece
                        if len(body) > _MAX_ANSWER:
                            raise _failed(f"answers with more than {_MAX_ANSWER} bytes")
                    return answer.status_code, bytes(body)
                finally:
                    answer.close()
        except httpx.HTTPError as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UnavailableError(
                "provider_unreachable",
                f"the provider of single sign-on at {request.url.host} cannot be reached"
                f" ({reason}): try again, or sign in with a password or a token",
            ) from error

    @contextmanager
    def _turn(self) -> Generator[None]:
        if not self._turns.acquire(timeout=_WAIT_S):
            raise UnavailableError("busy", "too many people sign in at this moment: try again")
        try:
            yield
        finally:
            self._turns.release()


def _failed(fault: str) -> ProviderError:
    return ProviderError(
        "provider_failed", f"the provider of single sign-on {fault}: ask who runs it"
    )


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else None


def _text(said: Mapping[str, Any], name: str) -> str:
    found = said.get(name)
    if not isinstance(found, str) or not found or not found.isprintable():
        raise ValueError(f"expected a text as {name}")
    return found


def _seconds(said: Mapping[str, Any], name: str, default: int | None) -> int:
    found = said.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ValueError(f"expected a number of seconds as {name}")
    return found


def _plain(code: str) -> str:
    """Return an error's word as a sentence may hold it."""
    return code if code.isascii() and code.isprintable() and len(code) <= 64 else "another"  # noqa: PLR2004 - longer than any word
