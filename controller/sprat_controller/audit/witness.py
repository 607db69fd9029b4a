"""A witness keeps the last checkpoint of a log that it saw, and says that it only grew. Pure.

A customer runs one in a place that the controller's owner cannot reach. A log that was rewritten,
shortened, or is shown to others as another has no proof from what the witness keeps: it refuses,
and nobody can make it forget.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from sprat_proto import notes
from sprat_proto.merkle import ProofError, verify_consistency
from sprat_proto.notes import Checkpoint, Note, NoteError, VerifierKey


class WitnessRefusedError(Exception):
    """The checkpoint is not cosigned; one sentence."""


class Keeper(Struct, frozen=True, forbid_unknown_fields=True):
    """What a witness keeps, secret: its key (32 bytes, hex), and what it saw last."""

    name: str
    private: str
    log: str  # vkey of the log
    checkpoint: str = ""  # text of the last that it cosigned; empty: none yet

    @property
    def key(self) -> Ed25519PrivateKey:
        """Its private key."""
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.private))

    @property
    def vkey(self) -> VerifierKey:
        """What verifies its cosignatures."""
        return notes.verifier_key(self.key, self.name, notes.COSIGNER)

    @property
    def seen(self) -> Checkpoint | None:
        """What it cosigned last."""
        return notes.read_checkpoint(self.checkpoint) if self.checkpoint else None


def read(keeper: Keeper, note: Note) -> Checkpoint:
    """Return the checkpoint of a note that the witness's log signed.

    Raises:
        WitnessRefusedError: It is another log's, or nobody's, or older than what was seen.
    """
    log, seen = notes.read_key(keeper.log), keeper.seen
    try:
        notes.verify(note, [log])
        checkpoint = notes.read_checkpoint(note.text)
    except NoteError as error:
        raise WitnessRefusedError(f"no checkpoint of {log.name}: {error}") from error
    if checkpoint.origin != log.name:
        raise WitnessRefusedError(f"expected a checkpoint of {log.name}, found {checkpoint.origin}")
    if seen is not None and checkpoint.size < seen.size:
        raise WitnessRefusedError(
            f"the log had {seen.size} records when it was cosigned, and now {checkpoint.size}: it"
            " was shortened"
        )
    return checkpoint


def cosign(
    keeper: Keeper, note: Note, proof: Sequence[bytes], time_s: int
) -> tuple[Keeper, notes.Signature]:
    """Return what to keep from now on, before the cosignature is shown to anyone, and it.

    Args:
        keeper: What is kept.
        note: The checkpoint, signed by the log.
        proof: That the log begins with what was seen last; empty for the first.
        time_s: Now, in seconds since 1970.

    Raises:
        WitnessRefusedError: The log was rewritten, or the note is not of the log.
    """
    checkpoint, seen = read(keeper, note), keeper.seen
    if seen is not None:
        try:
            verify_consistency(seen.size, checkpoint.size, proof, seen.root, checkpoint.root)
        except ProofError as error:
            raise WitnessRefusedError(
                f"the log of {checkpoint.size} does not begin with the {seen.size} records that"
                f" were cosigned: it was rewritten ({error})"
            ) from error
    kept = Keeper(keeper.name, keeper.private, keeper.log, note.text)
    return kept, notes.cosign(keeper.key, keeper.name, note.text, time_s)
