"""Passwords: which are good enough, and how they are kept: as argon2id, with their parameters.

A password is compared in NFC (RFC 8265, OpaqueString), so that two keyboards type the same one.
"""

from __future__ import annotations

import secrets
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from sprat_controller.errors import RequestError, UnavailableError

T = TypeVar("T")
# NIST SP 800-63B-4 §3.1.1.2: 15 characters where a password is the only factor, at least 64 must be
# possible, no rules about kinds of characters, and words of the context count for nothing.
MIN_LENGTH: Final = 15
MAX_LENGTH: Final = 256
_MIN_DIFFERENT: Final = 5
_CONTEXT: Final = ("sprat", "controller", "password", "passwort", "admin", "1234567890", "qwerty")
# Each costs its whole memory while it runs.
_AT_ONCE: Final = 2
_WAIT_S: Final = 10


@dataclass(frozen=True)
class Cost:
    """What one comparison costs."""

    memory_kib: int
    passes: int
    lanes: int


# RFC 9106 §4, the second recommended option: argon2id with 64 MiB, for what has not 2 GiB to spare.
RFC_9106: Final = Cost(memory_kib=64 << 10, passes=3, lanes=4)


@dataclass(frozen=True)
class Verdict:
    """Whether a password is the one, and whether it should be kept anew, at today's cost."""

    is_right: bool
    is_outdated: bool = False


_WRONG: Final = Verdict(is_right=False)


class Passwords:
    """Hashes and compares, a few at once; may be used by many threads."""

    def __init__(self, cost: Cost = RFC_9106) -> None:
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._hasher = PasswordHasher(
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            hash_len=32,
            salt_len=16,
            type=Type.ID,
        )
        # What somebody who is not there is compared with: nobody knows its password.
        self._decoy = self._hasher.hash(secrets.token_hex(32))

    def hash(self, text: str) -> str:
        """Return how to keep a password.

        Raises:
            UnavailableError: `busy`.
        """
        return self._in_turn(lambda: self._hasher.hash(unicodedata.normalize("NFC", text)))

    def compare(self, kept: str | None, text: str) -> Verdict:
        """Compare a password with what is kept of one; None costs the same, and is never right.

        Raises:
            UnavailableError: `busy`.
        """
        typed = unicodedata.normalize("NFC", text)
        return self._in_turn(lambda: self._compare(kept, typed))

    def _compare(self, kept: str | None, typed: str) -> Verdict:
        try:
            self._hasher.verify(kept or self._decoy, typed)
        except (VerificationError, InvalidHashError):
            return _WRONG
        if kept is None:
            return _WRONG
        return Verdict(is_right=True, is_outdated=self._hasher.check_needs_rehash(kept))

    def _in_turn(self, do: Callable[[], T]) -> T:
        if not self._turns.acquire(timeout=_WAIT_S):
            raise UnavailableError("busy", "too many people sign in at this moment: try again")
        try:
            return do()
        finally:
            self._turns.release()


def checked(text: str, name: str) -> str:
    """Return a new password in the form in which it is kept.

    Args:
        text: As it was typed; never part of an error.
        name: Whose it is to be.

    Raises:
        RequestError: `bad_password`.
    """
    typed = unicodedata.normalize("NFC", text)
    if not MIN_LENGTH <= len(typed) <= MAX_LENGTH:
        raise _bad(f"{MIN_LENGTH} to {MAX_LENGTH} characters, found {len(typed)}")
    if any(unicodedata.category(one) == "Cc" for one in typed):
        raise _bad("characters that can be typed, found others")
    rest = typed.casefold()
    for word in (name.casefold(), *_CONTEXT):
        rest = rest.replace(word, "")
    if len(set(rest)) < _MIN_DIFFERENT:
        raise _bad(
            f"at least {_MIN_DIFFERENT} different characters besides the name and words that"
            " everybody tries, found fewer"
        )
    return typed


def _bad(fault: str) -> RequestError:
    return RequestError("bad_password", f"expected a password of {fault}: choose another")
