"""The audit log outside the controller: exports, checking them, and being its witness."""

from __future__ import annotations

import base64
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, cast

import msgspec
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sprat_proto import notes
from sprat_proto.notes import NoteError, VerifierKey

from sprat_controller.audit import device_export, proofs
from sprat_controller.audit import export as exports
from sprat_controller.audit import witness as witnesses
from sprat_controller.audit.export import MAX_LINE_BYTES, Result
from sprat_controller.audit.views import Format
from sprat_controller.audit.witness import Keeper, WitnessRefusedError
from sprat_controller.cli import words
from sprat_controller.cli.client import JSON_LINES, TEXT_LINES
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.config import write_private

_FIRST_BYTES = 64
_EXITS = {
    Result.TAMPERED: Exit.AUDIT_TAMPERED,
    Result.INCOMPLETE: Exit.AUDIT_INCOMPLETE,
    Result.UNKNOWN_KEY: Exit.AUDIT_UNKNOWN_KEY,
}


def add_to(audit: typer.Typer) -> None:
    """Add these verbs to the group."""
    verb(audit, "key", example="sprat audit key")(key)
    verb(audit, "export", example="sprat audit export audit.jsonl --device gateway-1")(export)
    verb(
        audit,
        "witness",
        example="sprat audit witness --state witness.json --name customer.example/w --log KEY",
    )(witness)


_VKEY: Final = re.compile(r"""[^\s+"]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+=*""")


def key(session: Session) -> None:
    """Show the public key of the log; keep it where nobody of the controller can change it."""
    found = session.api.get("audit/key")
    session.output.one({name: found.get(name) for name in ("origin", "vkey")}, found)


def export(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; - is standard output.")],
    *,
    device: Annotated[str | None, typer.Option(help="Only what is about it.")] = None,
    rollout: Annotated[str | None, typer.Option(help="Only what is about it.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only what has this tag.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this actor did.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only what was done to this.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339: only from then on.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339: only before then.")] = None,
    device_log: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="Its own log instead of the controller's.")
    ] = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="For another system, without what verifying it needs."),
    ] = None,
) -> None:
    """Write the controller's log, or a device's own, with all that verifying it needs."""
    params = {"device": device, "rollout": rollout, "tag": tag, "actor": actor}
    params |= {"subject": subject, "since": since, "until": until}
    if device_log is not None and any(params.values()):
        raise CliError("--device-log is a whole log: leave out all other filters", Exit.USAGE)
    path = f"devices/{words.device(device_log)}/audit" if device_log is not None else "audit"
    kind = TEXT_LINES if format_ in (Format.CEF, Format.RFC5424) else JSON_LINES
    params["format"] = None if format_ is None else format_.value
    chunks = session.api.lines(f"{path}/export", params, kind)
    if str(file) == "-":
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        return
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("wb") as made:
            for chunk in chunks:
                made.write(chunk)
        partial.replace(file)
    except OSError as error:
        raise CliError(f"the export cannot be written to {file}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):  # it is there only if the export was cut off
            partial.unlink()


def verify_export(session: Session, file: Path, given: list[str]) -> None:
    """Check an export, without a controller."""
    if not given:
        raise CliError(
            "expected --key with the log's public key (`sprat audit key`), found none", Exit.USAGE
        )
    keys = [_read_key(one) for one in given]
    try:
        with file.open("rb") as lines:
            first = lines.read(_FIRST_BYTES)
            lines.seek(0)
            if proofs.is_one(first):
                found = proofs.verify(lines.read(proofs.MAX_BYTES + 1), keys)
            else:
                check = device_export.verify if device_export.is_one(first) else exports.verify
                found = check(_bounded(lines), keys)
    except OSError as error:
        why = error.strerror or str(error)
        # Not 1: that is for a log that was tampered with.
        raise CliError(f"the export {file} cannot be read: {why}", Exit.USAGE) from error
    shown = {
        "result": found.result.name.lower(),
        "records": found.records,
        "expired": found.expired,
        "first_bad": found.seq,
        "signed_by": ", ".join(found.signers) or None,
        "message": found.message,
    }
    session.output.one(cast("Any", shown), shown)
    if found.result is not Result.INTACT:
        raise CliError(found.message, _EXITS[found.result])


def witness(
    session: Session,
    *,
    state: Annotated[Path, typer.Option(metavar="FILE", help="What it keeps; made if not there.")],
    name: Annotated[str | None, typer.Option(help="Of the witness, at the first time.")] = None,
    log: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The log's public key: at first, and its next one."),
    ] = None,
    accept_restore: Annotated[
        bool,
        typer.Option("--accept-restore", help="Go on although records are lost: ask why first."),
    ] = False,
) -> None:
    """Cosign the newest checkpoint, if the log only grew since the last one that was."""
    keeper = _keeper(state, name, log)
    api = session.api
    if accept_restore:
        said = [str(one.get("statement")) for one in api.pages("audit/restorations")]
        try:
            keeper = witnesses.accept(keeper, said)
        except WitnessRefusedError as error:
            raise CliError(f"not accepted: {error}", Exit.REFUSED) from error
    note = _note(api.text("audit/checkpoint"))
    try:
        if log is not None:
            keeper = witnesses.follow(keeper, _read_key(log), note)
        checkpoint, seen = witnesses.read(keeper, note), keeper.seen
        proof: list[bytes] = []
        if seen is not None and seen.size < checkpoint.size:
            asked = {"from": seen.size, "to": checkpoint.size}
            answer = api.get("audit/proof/consistency", asked)
            hashes = msgspec.convert(answer.get("hashes"), list[str])
            proof = [base64.b64decode(one) for one in hashes]
        time_s = int(session.around.clock().timestamp())
        keeper, signature = witnesses.cosign(keeper, note, proof, time_s)
    except (WitnessRefusedError, ValueError) as error:
        raise CliError(f"not cosigned: {error}", Exit.REFUSED) from error
    # Kept before it is told: what was told is never contradicted.
    try:
        write_private(state, msgspec.json.encode(keeper))
    except OSError as error:
        raise CliError(f"not cosigned: {state} cannot be written: {error.strerror}") from error
    body = {"size": checkpoint.size, "vkey": str(keeper.vkey), "line": str(signature)}
    api.post("audit/cosignatures", body)
    told = str(note.signed(signature))
    shown = {"size": checkpoint.size, "witness": str(keeper.vkey), "note": told}
    session.output.one(cast("Any", shown), shown)


def _keeper(state: Path, name: str | None, log: str | None) -> Keeper:
    try:
        keeper = msgspec.json.decode(state.read_bytes(), type=Keeper)
        _ = keeper.vkey, keeper.seen, notes.read_key(keeper.log)
    except FileNotFoundError:
        pass
    except (OSError, *exports.UNREADABLE, ValueError) as error:  # NoteError is one
        raise CliError(f"expected {state} as this verb makes it: {error}") from error
    else:
        return keeper
    if name is None or log is None:
        raise CliError(f"{state} is not there: give --name and --log to make it", Exit.USAGE)
    private = Ed25519PrivateKey.generate()
    try:
        notes.verifier_key(private, name, notes.COSIGNER)
    except NoteError as error:
        raise CliError(str(error), Exit.USAGE) from error
    return Keeper(name, private.private_bytes_raw().hex(), str(_read_key(log)))


def _read_key(given: str) -> VerifierKey:
    """Read a vkey, or the file that it is in: alone, or as `sprat audit key` shows it."""
    try:
        file = Path(given)
        text = file.read_text(encoding="utf-8") if "+" not in given or file.is_file() else given
        shown = _VKEY.search(text)
        return notes.read_key(shown[0] if shown else text)
    except (OSError, UnicodeDecodeError, NoteError) as error:
        said = f"expected a key such as `sprat audit key` shows: {error}"
        raise CliError(said, Exit.USAGE) from error


def _note(text: str) -> notes.Note:
    try:
        return notes.read_note(text)
    except NoteError as error:
        raise CliError(f"expected a checkpoint from the controller: {error}") from error


def _bounded(lines: Any) -> Iterator[bytes]:
    while one := lines.readline(MAX_LINE_BYTES):
        yield one
