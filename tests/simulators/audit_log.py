"""A controller's audit log in memory, with checkpoints: what `sprat audit` talks to."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sprat_controller.audit.export import End, Head, line, record_line
from sprat_proto import canonical, notes
from sprat_proto.merkle import Frontier, consistency_proof, inclusion_proof, leaf_hash
from sprat_proto.notes import Checkpoint, InclusionProof, Note

ORIGIN = "sprat-1/audit"


def _records() -> list[bytes]:
    return [canonical.encode({"seq": seq, "outcome": "success"}) for seq in range(1, 6)]


@dataclass
class AuditLog:
    """Five records, and a key."""

    private: Ed25519PrivateKey = field(
        default_factory=lambda: Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    )
    records: list[bytes] = field(default_factory=_records)
    cosigned: list[str] = field(default_factory=list[str])
    former: Ed25519PrivateKey | None = None  # signs as well

    @property
    def vkey(self) -> str:
        return str(notes.verifier_key(self.private, ORIGIN))

    def append(self, count: int) -> None:
        for seq in range(len(self.records) + 1, len(self.records) + count + 1):
            self.records.append(canonical.encode({"seq": seq, "outcome": "success"}))

    def rewrite(self) -> None:
        """Change the second record, and sign what comes of it."""
        self.records[1] = canonical.encode({"seq": 2, "outcome": "denied"})

    def replace_key(self) -> None:
        """Sign with another key, and with the one before as well."""
        self.former = self.private
        self.private = Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))

    def rewrite_next(self) -> None:
        """Go on with a record that was never there, as after a backup."""
        seq = len(self.records) + 1
        self.records.append(canonical.encode({"seq": seq, "outcome": "failure"}))

    def note(self) -> str:
        text = str(Checkpoint(ORIGIN, len(self.records), self._root(0, len(self.records))))
        keys = [self.private, *([self.former] if self.former else [])]
        return str(Note(text).signed(*(notes.sign(key, ORIGIN, text) for key in keys)))

    def proof(self, old: int, new: int) -> list[str]:
        proof = consistency_proof(
            old, new, lambda level, index: self._root(index << level, (index + 1) << level)
        )
        return [base64.b64encode(one).decode() for one in proof]

    def inclusion(self, seq: int) -> dict[str, object]:
        size = len(self.records)
        proof = inclusion_proof(
            seq - 1, size, lambda level, index: self._root(index << level, (index + 1) << level)
        )
        text = InclusionProof(seq - 1, tuple(proof), notes.read_note(self.note()))
        digest = leaf_hash(self.records[seq - 1]).hex()
        return {"seq": seq, "hash": digest, "size": size, "tlog_proof": str(text)}

    def export(self) -> bytes:
        lines = [record_line(one, leaf_hash(one).hex()) for one in self.records]
        head, end = Head(1, self.note(), whole=True), End(len(self.records))
        return b"".join([line(head), *lines, line(end)])

    def _root(self, start: int, end: int) -> bytes:
        frontier = Frontier()
        for one in self.records[start:end]:
            frontier.append(leaf_hash(one))
        return frontier.root()
