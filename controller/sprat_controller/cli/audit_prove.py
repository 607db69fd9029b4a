"""Proofs out of the audit log, in files that are checked without the controller."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from sprat_proto import canonical, notes
from sprat_proto.merkle import leaf_hash
from sprat_proto.notes import NoteError

from sprat_controller.audit import proofs
from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.verbs import Session, verb

_FORM = "expected SEQ, or --from and --to with the sizes of two checkpoints"


def add_to(audit: typer.Typer) -> None:
    """Add this verb to the group."""
    verb(audit, "prove", example="sprat audit prove 1234 --out record-1234.tlog-proof")(prove)


def prove(
    session: Session,
    seq: Annotated[
        int | None, typer.Argument(min=1, metavar="[SEQ]", help="That this record is in the log.")
    ] = None,
    *,
    old: Annotated[
        int | None, typer.Option("--from", min=1, help="That it begins with so many records.")
    ] = None,
    new: Annotated[
        int | None, typer.Option("--to", min=1, help="And had so many; default: as it is now.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; default: standard output.")
    ] = None,
) -> None:
    """Write the proof that a record is in the log, or that the log only grew."""
    if (seq is None) == (old is None) or (old is None and new is not None):
        raise CliError(_FORM, Exit.USAGE)
    data = _inclusion(session, seq) if seq is not None else _consistency(session, old or 0, new)
    if out is None:
        sys.stdout.buffer.write(data)
        return
    try:
        out.write_bytes(data)
    except OSError as error:
        raise CliError(f"the proof cannot be written to {out}: {error.strerror}") from error
    session.output.one({"file": str(out)}, {"file": str(out)})


def _inclusion(session: Session, seq: int) -> bytes:
    answer = session.api.get("audit/proof/inclusion", {"seq": seq})
    found = list(session.api.pages("audit", {"after": seq - 1}, 1))
    try:
        proof = notes.read_inclusion_proof(str(answer.get("tlog_proof")))
    except NoteError as error:
        raise CliError(f"expected a proof from the controller: {error}") from error
    extra = _record(seq, answer, found[0] if found else {})
    return str(replace(proof, extra=extra)).encode()


def _record(seq: int, answer: Json, item: Json) -> bytes:
    digest = str(answer.get("hash"))
    if answer.get("expired"):
        return proofs.expired(seq, digest)
    # Records are written in canonical form: so their bytes are known from what they say.
    body = canonical.encode(item.get("body") or {})
    if item.get("seq") != seq or leaf_hash(body).hex() != digest:
        raise CliError(
            f"record {seq} is not the one whose hash is in the log: run `sprat audit verify`",
            Exit.REFUSED,
        )
    return body


def _consistency(session: Session, old: int, new: int | None) -> bytes:
    before = session.api.text("audit/checkpoint", {"size": old})
    after = session.api.text("audit/checkpoint", {} if new is None else {"size": new})
    try:
        sizes = [notes.read_checkpoint(notes.read_note(one).text).size for one in (before, after)]
    except NoteError as error:
        raise CliError(f"expected a checkpoint from the controller: {error}") from error
    asked = {"from": sizes[0], "to": sizes[1]}
    hashes: object = session.api.get("audit/proof/consistency", asked).get("hashes")
    try:
        listed = msgspec.convert(hashes, list[str])
    except msgspec.ValidationError as error:
        raise CliError(f"expected a proof from the controller: {error}") from error
    return msgspec.json.encode(proofs.Consistency(1, before, after, listed)) + b"\n"
