"""The signed statement that an audit log went on from a state that was not signed before. Pure.

A note by the key of the log, and no checkpoint: another first line, and no number in the second.

    <origin>/restored
    restoration 1
    before 1200 <root, base64>
    after 1100 <root, base64>
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from sprat_proto import notes
from sprat_proto.notes import NoteError, VerifierKey

_SUFFIX: Final = "/restored"
_STATE: Final = r"([1-9]\d{0,18}|0) ([A-Za-z0-9+/]{43}=)"
_FORM: Final = re.compile(
    rf"(\S+){_SUFFIX}\nrestoration ([1-9]\d{{0,9}})\nbefore {_STATE}\nafter {_STATE}\n"
)


@dataclass(frozen=True)
class State:
    """How long a log was, and its root."""

    size: int
    root: bytes

    def __str__(self) -> str:
        """Return it as a line of a statement has it."""
        return f"{self.size} {base64.b64encode(self.root).decode()}"


@dataclass(frozen=True)
class Restoration:
    """A log went on from `after`, and what it had up to `before` is lost from there on."""

    origin: str
    number: int  # from 1
    before: State
    after: State

    def __str__(self) -> str:
        """Return the text that is signed."""
        return (
            f"{self.origin}{_SUFFIX}\nrestoration {self.number}\n"
            f"before {self.before}\nafter {self.after}\n"
        )


def read(statement: str, key: VerifierKey) -> Restoration:
    """Return what a statement says that the log's key signed.

    Raises:
        NoteError: It is none, or of another log, or not signed by this key.
    """
    note = notes.read_note(statement)
    notes.verify(note, [key])
    match = _FORM.fullmatch(note.text)
    if match is None or match[1] != key.name:
        raise NoteError(f"expected a statement that {key.name} was restored")
    try:
        roots = [base64.b64decode(match[at], validate=True) for at in (4, 6)]
    except binascii.Error as error:
        raise NoteError(f"expected roots in a statement: {error}") from error
    before, after = State(int(match[3]), roots[0]), State(int(match[5]), roots[1])
    return Restoration(match[1], int(match[2]), before, after)
