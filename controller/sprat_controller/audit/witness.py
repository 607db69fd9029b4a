"""A witness keeps the last checkpoint of a log that it saw, and says that it only grew. Pure.

A customer runs one in a place that the controller's owner cannot reach. A log that was rewritten,
shortened, or is shown to others as another has no proof from what the witness keeps: it refuses,
and nobody can make it forget.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from sprat_proto import notes
from sprat_proto.merkle import ProofError, verify_consistency
from sprat_proto.notes import Checkpoint, Note, NoteError, VerifierKey

from sprat_controller.audit import restoration


class WitnessRefusedError(Exception):
    """The checkpoint is not cosigned; one sentence."""


class Keeper(Struct, frozen=True, forbid_unknown_fields=True):
    """What a witness keeps, secret: its key (32 bytes, hex), and what it saw last."""

    name: str
    private: str
    log: str  # vkey of the log
    checkpoint: str = ""  # text of the last that it cosigned; empty: none yet
    accepted: list[str] = []  # each restoration of the log that it was told to accept

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


def follow(keeper: Keeper, log: VerifierKey, note: Note) -> Keeper:
    """Return a witness that knows the log by its next key from now on.

    Args:
        keeper: What is kept.
        log: The next key.
        note: A checkpoint: the key that is known signed it as well, so it is of the same log.

    Raises:
        WitnessRefusedError: It is not signed by both.
    """
    known = notes.read_key(keeper.log)
    if known == log:
        return keeper
    try:
        by = {one.key for one in notes.verify(note, [known, log])}
    except NoteError as error:
        raise WitnessRefusedError(f"no checkpoint of {known.name}: {error}") from error
    if log.name != known.name or by != {known, log}:
        raise WitnessRefusedError(
            f"expected a checkpoint that both {known} and {log} signed: only so does the log itself"
            " say that the second is its next key; else a witness of a new name begins anew"
        )
    return msgspec.structs.replace(keeper, log=str(log))


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
    kept = msgspec.structs.replace(keeper, checkpoint=note.text)
    return kept, notes.cosign(keeper.key, keeper.name, note.text, time_s)


def accept(keeper: Keeper, statements: Sequence[str]) -> Keeper:
    """Return a witness for whom the log goes on from where it was restored to.

    What was lost is lost: that is for people to judge. What can be checked is: the log's key signed
    that it gave up what the witness saw, or what came of that, and from where it goes on.

    Args:
        keeper: What is kept.
        statements: Of all restorations of the log, oldest first (`restoration`).

    Raises:
        WitnessRefusedError: There is no restoration that it does not know, or it is not of this.
    """
    seen, log = keeper.seen, notes.read_key(keeper.log)
    known = len(keeper.accepted)  # by a key of before, perhaps
    try:
        fresh = [restoration.read(one, log) for one in statements[known:]]
    except NoteError as error:
        raise WitnessRefusedError(f"no restoration of {log.name}: {error}") from error
    if list(statements[:known]) != keeper.accepted:
        raise WitnessRefusedError("restorations that were accepted before are not there any more")
    if seen is None or not fresh:
        raise WitnessRefusedError(f"{log.name} was not restored since the witness looked")
    if [one.number for one in fresh] != list(range(known + 1, len(statements) + 1)):
        raise WitnessRefusedError("expected restorations numbered from 1, found others")
    # One of before the witness looked gave up what it never saw: it had nothing to accept then.
    given_up = next((one.before for one in fresh if one.before.size >= seen.size), fresh[-1].before)
    if given_up.size < seen.size:
        raise WitnessRefusedError(
            f"the log gave up {given_up.size} records, and had {seen.size} when it was cosigned"
        )
    if given_up.size == seen.size and given_up.root != seen.root:
        raise WitnessRefusedError("the log gave up other records than those that were cosigned")
    after = fresh[-1].after
    text = str(Checkpoint(log.name, after.size, after.root)) if after.size else ""
    return msgspec.structs.replace(keeper, checkpoint=text, accepted=list(statements))
