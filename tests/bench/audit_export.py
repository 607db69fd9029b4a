"""How long it takes to check an export of a million audit records; whether a wrong one is found."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from figure import Figure
from sprat_controller.audit.export import End, Head, Result, Subtree, line, record_line, verify
from sprat_proto import canonical, notes
from sprat_proto.merkle import Frontier, leaf_hash
from sprat_proto.notes import Checkpoint, Note

ORIGIN: Final = "sprat-bench/audit"
RECORDS: Final = 1_000_000
BOUND_S: Final = 10.0
TAMPERINGS: Final = ("changed", "removed", "inserted", "reordered")


def body(seq: int) -> bytes:
    """Return a record as an assignment's is."""
    return canonical.encode(
        {
            "v": 2,
            "log": "controller",
            "seq": seq,
            "ts": "2026-11-26T12:00:00.000+00:00",
            "actor": {"type": "system", "id": "planner"},
            "tag": "planner:assignment:issued",
            "subject": f"device/gw-{seq % 10_000:05}",
            "outcome": "success",
            "detail": {"version": seq, "models": {"assistant": "ab" * 32}},
        }
    )


def make(path: Path, count: int, key: Ed25519PrivateKey) -> None:
    """Write an export of `count` records."""
    frontier = Frontier()
    rows = path.with_suffix(".rows")
    with rows.open("wb") as file:
        for seq in range(1, count + 1):
            record = body(seq)
            leaf = leaf_hash(record)
            file.write(record_line(record, leaf.hex()))
            completed = frontier.append(leaf)
            for level in range(8, len(completed), 8):
                file.write(line(Subtree(level // 8, completed[level].hex())))
    text = str(Checkpoint(ORIGIN, count, frontier.root()))
    note = Note(text).signed(notes.sign(key, ORIGIN, text))
    with path.open("wb") as file, rows.open("rb") as made:
        file.write(line(Head(1, str(note), whole=True)))
        while chunk := made.read(1 << 20):
            file.write(chunk)
        file.write(line(End(count)))
    rows.unlink()


def tampered(path: Path, seq: int, how: str) -> Iterator[bytes]:
    """Yield the export's lines with one record changed, removed, inserted or reordered."""
    mark, held = b'"seq":%d,' % seq, b""
    with path.open("rb") as file:
        for one in file:
            if held:
                yield from (one, held)
                held = b""
            elif not (one.startswith(b'{"hash"') and mark in one):
                yield one
            elif how == "changed":
                yield one.replace(b"success", b"failure")
            elif how == "inserted":
                forged = body(seq).replace(b"success", b"failure")
                yield from (record_line(forged, leaf_hash(forged).hex()), one)
            elif how == "reordered":
                held = one


def figures() -> Iterator[Figure]:
    """Check an export that is intact, then ones of which one record is wrong."""
    key = Ed25519PrivateKey.generate()
    keys = [notes.verifier_key(key, ORIGIN)]
    with tempfile.TemporaryDirectory(prefix="sprat-bench-") as folder:
        path = Path(folder, "export.jsonl")
        make(path, RECORDS, key)
        began, worked = time.perf_counter(), time.process_time()
        with path.open("rb") as file:
            found = verify(file, keys)
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - worked
        if found.result is not Result.INTACT:
            raise RuntimeError(f"an intact export was found to be {found.result}: {found.message}")
        detail: dict[str, object] = {
            "mib": path.stat().st_size >> 20,
            "cpu_s": round(cpu_s, 1),
        }
        yield Figure("audit_verify 1,000,000 records", took_s, "s", BOUND_S, detail=detail)
        missed = [how for how in TAMPERINGS if not _is_found(path, how, keys)]
        yield Figure("audit_tampering_missed", len(missed), "ways", 0, detail={"missed": missed})


def _is_found(path: Path, how: str, keys: Sequence[notes.VerifierKey]) -> bool:
    seq = random.randrange(2, RECORDS)  # noqa: S311 - any place will do
    found = verify(tampered(path, seq, how), keys)
    # One that was put in stands before the one whose number it took: seen at the second of the two.
    place = seq + 1 if how == "inserted" else seq
    return found.result is Result.TAMPERED and found.seq == place
