"""What is in a signed token (JWS, RFC 7515), once its signature is right. Pure.

The header is judged before anything else of it is used. It may name one of the provider's keys; it
may not bring one along, say where one is, or ask for rules of its own (`crit`). The algorithm is
one of those that were agreed on, and the key is of its kind. There is one way to write a token
down: what base64 and JSON leave open (unused bits, names that come twice) is refused.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from joserfc import jws
from joserfc.errors import JoseError

from sprat_controller.access.oidc.tokens.keys import Keys
from sprat_controller.access.oidc.tokens.refusals import Reason, TokenRefusedError

MAX_LENGTH: Final = 64 << 10
# joserfc takes no longer ones.
_MAX_HEADER: Final = 512
_MAX_SIGNATURE: Final = 1024
_PARTS: Final = 3
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
# What brings a key along, says where one is, changes how the rest is read, or must be understood.
_FORBIDDEN: Final = ("crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc", "cty")
_SHOWN: Final = 40

Claims = Mapping[str, Any]


@dataclass(frozen=True)
class Signed:
    """A token whose signature is right; nobody looked at its claims yet."""

    algorithm: str
    claims: Claims


def read(text: str, keys: Keys, algorithms: Collection[str], types: Collection[str]) -> Signed:
    """Return what is in a token.

    Args:
        text: The token, in compact form.
        keys: The provider's.
        algorithms: Those that are allowed: some of `keys.ALGORITHMS`.
        types: What the header may say that it is, in small letters; it may also say nothing.

    Raises:
        TokenRefusedError: It is not believed. `UNKNOWN_KEY` if it may be of a key that the provider
            has not had when its keys were read.
    """
    header_bytes, payload_bytes = _segments(text)
    header = _object(header_bytes, "header")
    algorithm, kid = _judge(header, algorithms, types)
    key = keys.find(kid, algorithm)
    if key is None:
        named = "no key" if kid is None else f"the key {shown(kid)}"
        raise TokenRefusedError(
            Reason.UNKNOWN_KEY,
            f"expected a token of one of the provider's keys for {algorithm}, found one that names"
            f" {named}",
        )
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    try:
        jws.deserialize_compact(text, key.key, registry=registry)
    except (JoseError, ValueError, TypeError) as error:
        raise TokenRefusedError(
            Reason.SIGNATURE,
            "expected the signature of the provider's key over the token, found another",
        ) from error
    return Signed(algorithm, _object(payload_bytes, "claims"))


def shown(value: object) -> str:
    """Return a value of somebody else's as a sentence may hold it: short, and in ASCII."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _segments(text: str) -> tuple[bytes, bytes]:
    """Return the bytes of the header and of the claims."""
    parts = text.split(".") if len(text) <= MAX_LENGTH else []
    if len(parts) != _PARTS:
        raise _malformed("three parts of at most 64 KiB together", "others")
    header, payload, signature = (_decoded(part) for part in parts)
    if len(parts[0]) > _MAX_HEADER or len(parts[2]) > _MAX_SIGNATURE:
        raise _malformed("a header of at most 512 and a signature of 1,024 characters", "more")
    del signature
    return header, payload


def _decoded(part: str) -> bytes:
    if _BASE64URL.fullmatch(part) is None:
        raise _malformed("base64url without padding", "something else")
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as error:
        raise _malformed("base64url without padding", "something else") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise _malformed("base64url without unused bits", "some")
    return data


def _judge(
    header: Mapping[str, Any], algorithms: Collection[str], types: Collection[str]
) -> tuple[str, str | None]:
    """Return the algorithm and the name of the key of a header that is as it must be."""
    for name in _FORBIDDEN:
        if name in header:
            raise TokenRefusedError(
                Reason.HEADER, f"expected a token whose header is without {name!r}, found one"
            )
    algorithm, kid, type_ = (header.get(name) for name in ("alg", "kid", "typ"))
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise TokenRefusedError(
            Reason.ALGORITHM,
            f"expected a token signed with {' or '.join(sorted(algorithms))}, found"
            f" {shown(algorithm)}",
        )
    if "kid" in header and not isinstance(kid, str):
        raise TokenRefusedError(Reason.HEADER, "expected the name of a key, found another value")
    if "typ" in header and (not isinstance(type_, str) or type_.lower() not in types):
        raise TokenRefusedError(
            Reason.HEADER, f"expected a token of type {' or '.join(types)}, found {shown(type_)}"
        )
    return algorithm, kid


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"{what} that are one JSON object", "something else") from error
    if not isinstance(value, dict):
        raise _malformed(f"{what} that are one JSON object", "another value")
    return cast("dict[str, Any]", value)


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _malformed(expected: str, found: str) -> TokenRefusedError:
    return TokenRefusedError(
        Reason.MALFORMED, f"expected a token of {expected}, found one with {found}"
    )
