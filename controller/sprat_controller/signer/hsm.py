"""A P-256 key that stays in a PKCS#11 token and still signs what cryptography builds.

The only file of the controller that imports pkcs11. A session of the library is of one thread at a
time.
"""

from __future__ import annotations

import threading
from typing import Any, NoReturn, cast

# python-pkcs11 has no complete type stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11.exceptions import UserAlreadyLoggedIn
from pkcs11.util.ec import encode_ec_public_key, encode_ecdsa_signature

from sprat_controller.signer.keys import KeyUnusableError, Pkcs11Place


class HsmKey(ec.EllipticCurvePrivateKey):
    """A private key whose sign() asks the token; everything that would show it is refused."""

    def __init__(self, private: Any, public: ec.EllipticCurvePublicKey) -> None:
        self._private = private
        self._public = public
        self._lock = threading.Lock()

    @classmethod
    def open(cls, place: Pkcs11Place) -> HsmKey:
        """Log in to the token and find the key pair by its label. Blocking.

        Raises:
            KeyUnusableError: No such module, token or key, or a wrong PIN.
        """
        try:
            session = _session(place)
            private = session.get_key(
                object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=place.label
            )
            found = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=place.label)
            public = load_der_public_key(encode_ec_public_key(cast("pkcs11.PublicKey", found)))
        except (pkcs11.PKCS11Error, RuntimeError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise KeyUnusableError(
                f"the key {place.label!r} cannot be had from the token {place.token!r}: {said};"
                " check the label, the PIN and the module"
            ) from error
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(
            public.curve, ec.SECP256R1
        ):
            raise KeyUnusableError(
                f"expected a P-256 key {place.label!r} in the token {place.token!r}, found another"
            )
        return cls(private, public)

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """Return a DER signature over `data`, hashed here and signed in the token."""
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, utils.Prehashed) or not isinstance(algorithm, SHA256):
            raise TypeError("expected ECDSA with SHA-256 over the data itself")
        hashing = Hash(algorithm)
        hashing.update(data)
        with self._lock:
            raw = self._private.sign(hashing.finalize(), mechanism=pkcs11.Mechanism.ECDSA)
        return encode_ecdsa_signature(raw)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public half."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Bits."""
        return self._public.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """Refuse: this key signs."""
        del algorithm, peer_public_key
        raise _stays()

    def private_numbers(self) -> NoReturn:
        """Refuse: the key stays in its token."""
        raise _stays()

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:  # noqa: A002 - the base class's name
        """Refuse: the key stays in its token."""
        del encoding, format, encryption_algorithm
        raise _stays()

    def __copy__(self) -> HsmKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> HsmKey:
        del memo
        return self


def _session(place: Pkcs11Place) -> Any:
    token = pkcs11.lib(place.module).get_token(token_label=place.token)
    try:
        return token.open(user_pin=place.pin)
    except UserAlreadyLoggedIn:
        # A process is logged in once, whatever its sessions: for another key of the same token.
        return token.open()


def _stays() -> ValueError:
    return ValueError("the key is in a PKCS#11 token, which signs with it and never shows it")
