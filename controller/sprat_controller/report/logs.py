"""The logs that a report rests on: how far each goes, and who signed it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from sprat_controller.report.record import CONTROLLER, Expired, Json, Record, cite, text


@dataclass(frozen=True)
class Proof:
    """What proves a log in the evidence.

    Attributes:
        log: `controller`, or a device's id.
        file: Where it is.
        origin: Its name in its checkpoints.
        vkey: What verifies them.
        size: How many records the checkpoint is of.
        root: Their root, in hex.
        signers: Who signed it.
        is_whole: All records up to the checkpoint follow.
    """

    log: str
    file: str
    origin: str
    vkey: str
    size: int
    root: str
    signers: tuple[str, ...]
    is_whole: bool = True


@dataclass
class Log:
    """Follows a log.

    Attributes:
        proof: What it is.
        records: How many were there.
        expired: Of how many only the hash was.
        first: The first that was there.
        last: The last.
        clocks: How often each trust in the device's clock was said.
        fault: One sentence, if it is not what was signed.
    """

    proof: Proof
    records: int = 0
    expired: int = 0
    first: Record | None = None
    last: Record | None = None
    clocks: dict[str, int] = field(default_factory=dict[str, int])
    fault: str = ""

    def take(self, record: Record | Expired) -> None:
        """Look at the next record."""
        if isinstance(record, Expired):
            self.expired += 1
            return
        self.records += 1
        self.first = self.first or record
        self.last = record
        clock = text(record.body.get("tsq"))
        if clock:
            self.clocks[clock] = self.clocks.get(clock, 0) + 1

    def statement(self, enrolled: Record | None) -> Json:
        """Return what is to be said of it.

        Args:
            enrolled: Of a device's log, the record of its enrolment.
        """
        key = enrolled.said("audit_key_sha256") if enrolled is not None else ""
        is_bound = self.proof.log == CONTROLLER or bool(key)
        return {
            "records": cite(self.first, self.last, enrolled),
            "log": self.proof.log,
            "file": self.proof.file,
            "origin": self.proof.origin,
            "size": self.proof.size,
            "root": self.proof.root,
            "signed_by": list(self.proof.signers),
            "whole": self.proof.is_whole,
            "present": self.records,
            "expired": self.expired,
            "first_at": self.first.ts if self.first else "",
            "last_at": self.last.ts if self.last else "",
            "clocks": dict(sorted(self.clocks.items())),
            "key_bound": is_bound,
            "fault": self.fault,
        }


def missing(device: str, enrolled: Record | None, why: str) -> Json:
    """Return what is to be said of a device of which no log is there, and why."""
    return {
        "records": cite(enrolled),
        "log": device,
        "file": "",
        "size": 0,
        "present": 0,
        "expired": 0,
        "whole": False,
        "key_bound": False,
        "fault": why,
    }
