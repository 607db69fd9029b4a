"""Signed notes and what logs say in them: keys, checkpoints, cosignatures, proofs. Pure.

The text forms are those of C2SP, so that tools of others read ours:

    signed-note        a text, an empty line, and signature lines `— NAME BASE64(key id, signature)`
    tlog-checkpoint    a note whose text is origin, size and root of a log, a line each
    tlog-cosignature   `cosignature/v1`: a keeper's word that it saw the log only ever grow until
                       then, a signature line with a time
    tlog-proof         a proof of inclusion with the checkpoint that it is about
    vkey               `NAME+HEX(key id)+BASE64(kind, key)`, what verifies them

Of the kinds of signatures these two are known: Ed25519 over the text, and Ed25519 cosignatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sprat_proto.merkle import HASH_SIZE, MAX_SIZE

Kind: TypeAlias = Literal[1, 4]
LOG: Final[Kind] = 1  # signs the text
COSIGNER: Final[Kind] = 4  # signs the text with a time
_KIND_NAMES: Final = {LOG: "a log's", COSIGNER: "a witness's"}

MAX_NOTE_BYTES: Final = 64 << 10
MAX_SIGNATURES: Final = 64
MAX_PROOF_HASHES: Final = 63
_MAX_NAME: Final = 255
_KEY_SIZE: Final = 32
_ID_SIZE: Final = 4
_TIME_SIZE: Final = 8
_SIGNATURE_SIZE: Final = 64
_DASH: Final = "\N{EM DASH} "
_PROOF_HEAD: Final = "c2sp.org/tlog-proof@v1"
# What a size or an index looks like; `int` alone takes signs, spaces, underscores and other digits.
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteError(ValueError):
    """It is no note, key, checkpoint or proof, or not signed as it must be; one sentence."""


@dataclass(frozen=True)
class VerifierKey:
    """A public key with the name that it signs under."""

    name: str
    public: bytes
    kind: Kind = LOG

    @property
    def key_id(self) -> bytes:
        """Return the four bytes that its signatures begin with."""
        hashed = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(hashed).digest()[:_ID_SIZE]

    def __str__(self) -> str:
        """Return it as a vkey."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.kind]) + self.public)}"


@dataclass(frozen=True)
class Signature:
    """A signature line."""

    name: str
    key_id: bytes
    body: bytes  # after the key id

    def __str__(self) -> str:
        """Return the line, with its end."""
        return f"{_DASH}{self.name} {_base64(self.key_id + self.body)}\n"


@dataclass(frozen=True)
class Note:
    """A text and who signed it, not looked at yet: see `verify`."""

    text: str  # with the end of its last line
    signatures: tuple[Signature, ...] = ()

    def __str__(self) -> str:
        """Return the note as it is written."""
        return "\n".join([self.text, "".join(str(one) for one in self.signatures)])

    def signed(self, *more: Signature) -> Note:
        """Return the note with more signatures; one that it has already stands there once."""
        added = tuple(one for one in dict.fromkeys(more) if one not in self.signatures)
        return replace(self, signatures=self.signatures + added)


@dataclass(frozen=True)
class Verified:
    """A key whose signature of a note was found good, and when it was made, if that is signed."""

    key: VerifierKey
    time_s: int | None = None  # seconds since 1970, of a cosignature


@dataclass(frozen=True)
class Checkpoint:
    """What a log was at one time: which log, how many records, which root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the text of its note."""
        lines = [self.origin, str(self.size), _base64(self.root), *self.extensions]
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class InclusionProof:
    """Shows that a record is in a log, to who has nothing but the record and the log's key."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Note
    extra: bytes | None = None  # not signed by anyone

    def __str__(self) -> str:
        """Return it as a file `.tlog-proof`."""
        lines = [_PROOF_HEAD]
        if self.extra is not None:
            lines.append(f"extra {_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines.extend(_base64(one) for one in self.hashes)
        return "".join(f"{line}\n" for line in lines) + f"\n{self.checkpoint}"


def verifier_key(private: Ed25519PrivateKey, name: str, kind: Kind = LOG) -> VerifierKey:
    """Return what verifies the signatures of a private key.

    Raises:
        NoteError: The name is none.
    """
    _check_name(name)
    return VerifierKey(name, private.public_key().public_bytes_raw(), kind)


def sign(private: Ed25519PrivateKey, name: str, text: str) -> Signature:
    """Return the signature of a note's text under a name.

    Raises:
        NoteError: The text or the name cannot be those of a note.
    """
    _check_text(text)
    key = verifier_key(private, name)
    return Signature(name, key.key_id, private.sign(text.encode()))


def cosign(private: Ed25519PrivateKey, name: str, checkpoint: str, time_s: int) -> Signature:
    """Return the word of a keeper that it saw the log of a checkpoint only ever grow until now.

    Args:
        private: The keeper's key.
        name: The keeper's name.
        checkpoint: The text of the checkpoint's note.
        time_s: Now, in seconds since 1970.

    Raises:
        NoteError: The text is no checkpoint, or the name none.
    """
    read_checkpoint(checkpoint)
    key = verifier_key(private, name, COSIGNER)
    signed = private.sign(_cosigned(checkpoint, time_s))
    return Signature(name, key.key_id, time_s.to_bytes(_TIME_SIZE) + signed)


def verify(note: Note, keys: Sequence[VerifierKey]) -> list[Verified]:
    """Return which of these keys signed the note; signatures of other keys say nothing.

    Raises:
        NoteError: None of them did, or a signature that bears the name of one is wrong.
    """
    known = {(key.name, key.key_id): key for key in keys}
    found: dict[VerifierKey, Verified] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            found[key] = Verified(key, _check_signature(note.text, signature, key))
    if not found:
        wanted = ", ".join(key.name for key in keys) or "any"
        signers = ", ".join(one.name for one in note.signatures) or "nobody"
        raise NoteError(f"expected a note signed by {wanted}, found it signed by {signers}")
    return list(found.values())


def read_key(text: str) -> VerifierKey:
    """Read a vkey.

    Raises:
        NoteError: It is none, or of a kind that is not known here.
    """
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    if not rest or not encoded:
        raise NoteError(f"expected a key as NAME+ID+KEY, found {text.strip()[:80]!r}")
    _check_name(name)
    material = _bytes(encoded, f"the key {name}")
    kind = material[0] if material else 0
    if kind not in _KIND_NAMES:
        raise NoteError(f"the key {name}: expected kind {LOG} or {COSIGNER}, found {kind}")
    if len(material) != 1 + _KEY_SIZE:
        found = len(material) - 1
        raise NoteError(f"the key {name}: expected {_KEY_SIZE} bytes, found {found}")
    key = VerifierKey(name, material[1:], cast("Kind", kind))
    if key_id != key.key_id.hex():
        raise NoteError(
            f"the key {name}: expected the id {key.key_id.hex()}, found {key_id[:16]!r}: it was"
            " changed on the way"
        )
    return key


def read_note(text: str) -> Note:
    """Read a note, whoever signed it.

    Raises:
        NoteError: It is none.
    """
    if len(text.encode()) > MAX_NOTE_BYTES:
        raise NoteError(f"expected a note of at most {MAX_NOTE_BYTES} bytes, found a longer one")
    body, empty, signatures = text.rpartition("\n\n")
    if not empty or not signatures.endswith("\n"):
        raise NoteError("expected a text, an empty line and signature lines, found another form")
    _check_text(f"{body}\n")
    lines = signatures[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"expected at most {MAX_SIGNATURES} signatures, found {len(lines)}")
    return Note(f"{body}\n", tuple(read_signature(line) for line in lines))


def read_signature(line: str) -> Signature:
    """Read a signature line, with or without its end.

    Raises:
        NoteError: It is none.
    """
    name, space, encoded = line.removesuffix("\n").removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise NoteError(f"expected a line `{_DASH}NAME SIGNATURE`, found {line[:80]!r}")
    _check_name(name)
    signed = _bytes(encoded, f"the signature of {name}")
    if len(signed) <= _ID_SIZE:
        raise NoteError(f"the signature of {name} is too short")
    return Signature(name, signed[:_ID_SIZE], signed[_ID_SIZE:])


def read_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint's note.

    Raises:
        NoteError: It is none.
    """
    _check_text(text)
    lines = text[:-1].split("\n")
    if len(lines) < 3 or not all(lines):  # noqa: PLR2004 - origin, size, root
        raise NoteError("expected a checkpoint of origin, size and root, found another text")
    origin, size, root, *extensions = lines
    number = _number(size, "a checkpoint's size")
    return Checkpoint(origin, number, _hash(root, "a checkpoint's root"), tuple(extensions))


def read_inclusion_proof(text: str) -> InclusionProof:
    """Read a file `.tlog-proof`; whether it proves anything is not looked at.

    Raises:
        NoteError: It is none.
    """
    head, _, note = text.partition("\n\n")
    first, *lines = head.split("\n")
    if first != _PROOF_HEAD or not lines:
        raise NoteError(f"expected {_PROOF_HEAD!r} and more lines, found {first[:80]!r}")
    extra = None
    if lines[0].startswith("extra "):
        extra = _bytes(lines.pop(0).removeprefix("extra "), "a proof's extra data")
    if not lines or not lines[0].startswith("index "):
        found = lines[0][:80] if lines else ""
        raise NoteError(f"expected a line `index NUMBER` in a proof, found {found!r}")
    index = _number(lines.pop(0).removeprefix("index "), "a proof's index")
    if len(lines) > MAX_PROOF_HASHES:
        raise NoteError(f"expected at most {MAX_PROOF_HASHES} hashes, found {len(lines)}")
    hashes = tuple(_hash(line, "a hash of a proof") for line in lines)
    return InclusionProof(index, hashes, read_note(note), extra)


def _check_signature(text: str, signature: Signature, key: VerifierKey) -> int | None:
    """Return when it was made, if that is signed."""
    time_s, message, signed = None, text.encode(), signature.body
    if key.kind == COSIGNER:
        time_s = int.from_bytes(signed[:_TIME_SIZE])
        message, signed = _cosigned(text, time_s), signed[_TIME_SIZE:]
    if len(signed) != _SIGNATURE_SIZE:
        raise NoteError(f"the signature of {key.name} has {len(signed)} bytes, not 64")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signed, message)
    except InvalidSignature as error:
        raise NoteError(f"the signature of {key.name} is not of this text") from error
    return time_s


def _cosigned(checkpoint: str, time_s: int) -> bytes:
    if not 0 <= time_s <= MAX_SIZE:
        raise NoteError(f"expected a time of 0 to {MAX_SIZE} seconds, found {time_s}")
    return f"cosignature/v1\ntime {time_s}\n{checkpoint}".encode()


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("expected the text of a note to end with a line end")
    if any(ord(one) < ord(" ") and one != "\n" for one in text):
        raise NoteError("expected no control characters in a note but line ends, found others")


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _MAX_NAME or "+" in name or len(name.split()) != 1 or _has_space(name):
        raise NoteError(
            f"expected a name of at most {_MAX_NAME} characters without spaces and `+`, found"
            f" {name[:80]!r}"
        )


def _has_space(name: str) -> bool:
    return any(one.isspace() or not one.isprintable() for one in name)


def _number(text: str, what: str) -> int:
    if _DECIMAL.fullmatch(text) is None or int(text) > MAX_SIZE:
        raise NoteError(f"expected {what} as a whole number, found {text[:40]!r}")
    return int(text)


def _hash(text: str, what: str) -> bytes:
    found = _bytes(text, what)
    if len(found) != HASH_SIZE:
        raise NoteError(f"expected {what} of {HASH_SIZE} bytes, found {len(found)}")
    return found


def _bytes(text: str, what: str) -> bytes:
    """Read base64 in its one spelling."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"expected {what} in base64: {error}") from error
    if _base64(found) != text:
        raise NoteError(f"expected {what} in base64, found another spelling of it")
    return found


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
