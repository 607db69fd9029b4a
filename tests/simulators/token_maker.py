"""A provider's keys, and the tokens that it or a forger makes with them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from sprat_controller.access.oidc.tokens import keys
from sprat_controller.access.oidc.tokens.keys import ALGORITHMS, Keys

ISSUER = "https://id.example/realms/works"
CLIENT = "sprat"
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
NONCE = "n-0S6_WzA2Mj"
ANY = [*ALGORITHMS, "HS256", "HS384", "HS512", "none"]


class Maker:
    """Keys by the names that the provider publishes them under, and more that it does not."""

    def __init__(self) -> None:
        self.rsa = RSAKey.generate_key(2048, {"kid": "rsa-1"})
        self.ec = ECKey.generate_key("P-256", {"kid": "ec-1"})
        self.ed = OKPKey.generate_key("Ed25519", {"kid": "ed-1"})
        self.forger = RSAKey.generate_key(2048, {"kid": "rsa-1"})
        self.old = RSAKey.generate_key(2048, {"kid": "rsa-0"})
        self.public = keys_of(self.rsa, self.ec, self.ed)

    def id_token(
        self,
        *,
        header: Mapping[str, Any] | None = None,
        key: Key | None = None,
        without: tuple[str, ...] = (),
        **claims: Any,
    ) -> str:
        """Return a good ID token, changed as a test asks for."""
        at = int(NOW.timestamp())
        said: dict[str, Any] = {
            "iss": ISSUER,
            "sub": "ann-7",
            "aud": CLIENT,
            "iat": at,
            "exp": at + 300,
            "nonce": NONCE,
            **claims,
        }
        for name in without:
            said.pop(name, None)
        return self.token(said, header=header, key=key)

    def token(
        self,
        claims: object,
        *,
        header: Mapping[str, Any] | None = None,
        key: Key | None = None,
    ) -> str:
        """Return any claims at all, signed."""
        said = {"alg": "RS256", "kid": "rsa-1", "typ": "JWT", **(header or {})}
        said = {name: value for name, value in said.items() if value is not None}
        return sign(said, json.dumps(claims).encode(), key or self.rsa)


def sign(header: Mapping[str, Any], payload: bytes, key: Key) -> str:
    """Return a token of any header: forgers keep to no rules."""
    head = b64(json.dumps(dict(header)).encode())
    algorithm = jws.JWSRegistry.algorithms[str(header["alg"])]
    signing_input = f"{head}.{b64(payload)}".encode()
    return f"{signing_input.decode()}.{b64(algorithm.sign(signing_input, key))}"


def keys_of(*pairs: RSAKey | ECKey | OKPKey | OctKey) -> Keys:
    """Return keys as the provider publishes them."""
    return keys.read({"keys": [pair.as_dict(private=False) for pair in pairs]})


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
