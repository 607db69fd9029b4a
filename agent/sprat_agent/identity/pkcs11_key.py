"""An identity key in a TPM or security token, through PKCS#11. The only file that imports pkcs11.

    pkcs11:token=NAME;object=LABEL?module-path=/usr/lib/….so&pin-source=/etc/sprat/pin

(RFC 7512.) The PIN is in a file of its own: in a URI it would stand in process lists and in
identity.json. A session is opened for each signature, one in days: a token may be pulled and put
back.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from sprat_agent.identity.identity import IdentityError

try:
    import pkcs11
    from pkcs11.types import PublicKey, SignMixin
    from pkcs11.util.ec import (
        encode_ec_public_key,
        encode_ecdsa_signature,
        encode_named_curve_parameters,
    )
except ImportError as error:
    raise IdentityError(
        "an identity key in a token needs python-pkcs11: install `sprat-agent[pkcs11]`"
    ) from error

_SCHEME: Final = "pkcs11:"
_WANTED: Final = frozenset[str]({"token", "object", "module-path", "pin-source"})


@dataclass(frozen=True)
class Place:
    """Where the key is."""

    token: str
    label: str
    module: str
    pin_file: Path


class Pkcs11Key:
    """An identity key that never leaves its token."""

    def __init__(self, uri: str, *, is_new: bool) -> None:
        """Find the key; without one, make it in the token if the device `is_new`.

        Raises:
            IdentityError: The URI is none, or the token is not there, refuses, or has no such key.
        """
        self._place = parse(uri)
        with self._opened() as session:
            public = _find(session, pkcs11.ObjectClass.PUBLIC_KEY, self._place.label)
            if public is None and is_new:
                public = _make(session, self._place.label)
            if not isinstance(public, PublicKey):
                raise self._gone()
            der = encode_ec_public_key(public)
        key = load_der_public_key(der)
        self._public_pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def public_pem(self) -> str:
        """The public half."""
        return self._public_pem.decode()

    def sign(self, statement: bytes) -> bytes:
        """Return the signature.

        Raises:
            IdentityError: The token is away or refuses.
        """
        with self._opened() as session:
            key = _find(session, pkcs11.ObjectClass.PRIVATE_KEY, self._place.label)
            if not isinstance(key, SignMixin):
                raise self._gone()
            raw = key.sign(sha256(statement).digest(), mechanism=pkcs11.Mechanism.ECDSA)
        return encode_ecdsa_signature(raw)

    def _gone(self) -> IdentityError:
        return IdentityError(
            f"the token {self._place.token!r} holds no key {self._place.label!r} that signs: this"
            " device can no longer prove who it is; enrol it under a new name"
        )

    @contextmanager
    def _opened(self) -> Generator[pkcs11.Session]:
        place = self._place
        try:
            pin = place.pin_file.read_text(encoding="utf-8").strip()
            token = pkcs11.lib(place.module).get_token(token_label=place.token)
            with token.open(rw=True, user_pin=pin) as session:
                yield session
        except (OSError, UnicodeDecodeError, RuntimeError, pkcs11.PKCS11Error) as error:
            said = str(error) or type(error).__name__
            raise IdentityError(
                f"the token {place.token!r} cannot be used through {place.module}: {said}"
            ) from error


def parse(uri: str) -> Place:
    """Read a PKCS#11 URI.

    Raises:
        IdentityError: A part is missing, or one that is not understood is there.
    """
    path, _, query = uri.removeprefix(_SCHEME).partition("?")
    parts: dict[str, str] = {}
    for part in [*path.split(";"), *query.split("&")]:
        name, _, value = part.partition("=")
        parts[name] = unquote(value)
    if parts.keys() != _WANTED or not all(parts.values()):
        # The values are not repeated: somebody may have written a PIN.
        raise IdentityError(
            "expected pkcs11:token=NAME;object=LABEL?module-path=FILE.so&pin-source=FILE, found"
            f" the parts {', '.join(sorted(parts)) or 'none'}"
        )
    pin_file = Path(parts["pin-source"].removeprefix("file:"))
    return Place(parts["token"], parts["object"], parts["module-path"], pin_file)


def _find(session: pkcs11.Session, kind: pkcs11.ObjectClass, label: str) -> pkcs11.Key | None:
    try:
        return session.get_key(object_class=kind, label=label)
    except pkcs11.NoSuchKey:
        return None


def _make(session: pkcs11.Session, label: str) -> PublicKey:
    curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
    public, _ = parameters.generate_keypair(store=True, label=label)
    return public
