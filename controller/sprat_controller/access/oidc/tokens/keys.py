"""A provider's public keys, as its JWKS document has them (RFC 7517). Pure.

What is no public key for signatures is left out: secret keys, keys to encrypt to, RSA keys below
2,048 bits, and kinds that are not known. A private key in there is left out too: whoever publishes
one has lost it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048
# Which kind of key, and of which curve, each algorithm is for. All of them are asymmetric: with a
# secret that is shared, whoever can check a token can make one.
ALGORITHMS: Final[Mapping[str, tuple[str, str | None]]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "Ed25519": ("OKP", "Ed25519"),
}
_KINDS: Final[Mapping[str, type[RSAKey | ECKey | OKPKey]]] = {
    "RSA": RSAKey,
    "EC": ECKey,
    "OKP": OKPKey,
}
_PUBLIC: Final = ("kty", "n", "e", "crv", "x", "y")
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

AnyKey = RSAKey | ECKey | OKPKey


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with.

    Attributes:
        kid: What the provider calls it; None: nothing.
        kind: RSA, EC or OKP.
        curve: Of EC and OKP.
        algorithm: The only one it is for; None: any of its kind.
        key: The key itself.
    """

    kid: str | None
    kind: str
    curve: str | None
    algorithm: str | None
    key: AnyKey

    def fits(self, algorithm: str) -> bool:
        """Tell whether it may check signatures of an algorithm."""
        kind, curve = ALGORITHMS[algorithm]
        return (
            self.kind == kind
            and (curve is None or self.curve == curve)
            and self.algorithm in (None, algorithm)
        )


@dataclass(frozen=True)
class Keys:
    """All keys of a provider at one moment."""

    keys: tuple[PublicKey, ...] = ()

    def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """Return the one key that a token says it is signed with; None: there is none.

        A token that names no key is of the only one that fits; two that fit are none.
        """
        found = [
            one for one in self.keys if one.fits(algorithm) and (kid is None or one.kid == kid)
        ]
        return found[0] if len(found) == 1 else None


def read(document: object) -> Keys:
    """Return the keys of a JWKS document.

    Raises:
        ValueError: It is no such document; the sentence says what was found.
    """
    listed: Any = (
        cast("Mapping[str, Any]", document).get("keys") if isinstance(document, dict) else None
    )
    if not isinstance(listed, list):
        raise ValueError("expected a JWKS document with a list of keys, found another document")  # noqa: TRY004 - what it holds is wrong
    entries = cast("Sequence[Any]", listed)
    if len(entries) > MAX_KEYS:
        raise ValueError(f"expected at most {MAX_KEYS} keys, found {len(entries)}")
    return Keys(tuple(key for one in entries if (key := _key(one)) is not None))


def _key(entry: object) -> PublicKey | None:
    if not isinstance(entry, dict):
        return None
    said = cast("dict[str, Any]", entry)
    kind, kid, algorithm, curve = (said.get(one) for one in ("kty", "kid", "alg", "crv"))
    if not isinstance(kind, str) or kind not in _KINDS or _PRIVATE & said.keys():
        return None
    if not _is_for_signatures(said) or not all(_is_text(one) for one in (kid, algorithm, curve)):
        return None
    if kind == "RSA" and not _is_long(said.get("n")):
        return None
    try:
        key = _KINDS[kind].import_key({one: said[one] for one in _PUBLIC if one in said})
        key.public_key  # noqa: B018 - reads the numbers, which may be none
    except (JoseError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return PublicKey(kid, kind, curve, algorithm, key)


def _is_long(modulus: object) -> bool:
    """Tell whether an RSA key has enough bits; joserfc would only warn."""
    if not isinstance(modulus, str):
        return False
    try:
        data = base64.urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4))
    except ValueError:
        return False
    return int.from_bytes(data).bit_length() >= MIN_RSA_BITS


def _is_for_signatures(said: Mapping[str, Any]) -> bool:
    operations: Any = said.get("key_ops")
    may_verify = operations is None or (isinstance(operations, list) and "verify" in operations)
    return said.get("use") in (None, "sig") and may_verify


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)
