"""An OpenID provider in this process, which answers what a test wants: also what none should."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
from joserfc.jwk import RSAKey
from sprat_controller.access.oidc.tokens.logout_token import EVENT

from simulators.token_maker import CLIENT, ISSUER, Maker

DEVICE: Final = "device-code-1"
_PATHS: Final = urlsplit(ISSUER).path


class ScriptedProvider:
    """What it knows, and what it was asked."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.maker = Maker()
        self.keys: list[Any] = [self.maker.rsa]
        self.document: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/certs",
            "device_authorization_endpoint": f"{ISSUER}/device",
        }
        self.claims: dict[str, Any] = {"sub": "ann-7", "groups": ["watchers"], "sid": "sid-1"}
        self.header: dict[str, Any] = {}
        self.nonce: str | None = None
        self.device_errors: list[str] = []
        self.answers: dict[str, Callable[[], httpx.Response]] = {}
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.transport = httpx.MockTransport(self._answer)

    @property
    def paths(self) -> list[str]:
        """Which paths were asked for."""
        return [path for path, _ in self.asked]

    def rotate(self) -> None:
        """Sign with another key, and have no more the one before."""
        self.maker.rsa = RSAKey.generate_key(2048, {"kid": f"rsa-{len(self.asked)}"})
        self.keys = [self.maker.rsa]

    def token(self, **changes: Any) -> str:
        """Return an ID token as it gives them now."""
        claims = self._times() | {"nonce": self.nonce, **self.claims, **changes}
        return self._signed({name: one for name, one in claims.items() if one is not None})

    def logout_token(self, **changes: Any) -> str:
        """Return what it tells when somebody signed out."""
        event: dict[str, Any] = {EVENT: {}}
        claims = self._times() | {"jti": "logout-1", "events": event, **changes}
        return self._signed({name: one for name, one in claims.items() if one is not None})

    def _times(self) -> dict[str, Any]:
        at = int(self._clock().timestamp())
        return {"iss": ISSUER, "aud": CLIENT, "iat": at, "exp": at + 300}

    def _signed(self, claims: dict[str, Any]) -> str:
        header = {"kid": self.maker.rsa.kid, **self.header}
        return self.maker.token(claims, header=header)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix(_PATHS)
        form = parse_qs(request.content.decode())
        self.asked.append((path, form))
        if path in self.answers:
            return self.answers[path]()
        match path:
            case "/.well-known/openid-configuration":
                return httpx.Response(200, json=self.document)
            case "/certs":
                public = [key.as_dict(private=False) for key in self.keys]
                return httpx.Response(200, json={"keys": public})
            case "/device":
                return httpx.Response(
                    200,
                    json={
                        "device_code": DEVICE,
                        "user_code": "WDJB-MJHT",
                        "verification_uri": f"{ISSUER}/code",
                        "expires_in": 600,
                        "interval": 5,
                    },
                )
            case "/token":
                return self._token(form)
            case _:
                return httpx.Response(404)

    def _token(self, form: dict[str, list[str]]) -> httpx.Response:
        if "device_code" in form and self.device_errors:
            return httpx.Response(400, json={"error": self.device_errors.pop(0)})
        body = {"access_token": "access-1", "token_type": "Bearer", "id_token": self.token()}
        return httpx.Response(200, content=json.dumps(body))
