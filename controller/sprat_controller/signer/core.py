"""The signer's verbs, in one process: keys, limits and records behind the `Signer` protocol.

Each verb is one transaction of the records: it is judged, remembered and written down, and only
then does the signature leave. A refusal is written down too.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from sprat_proto import notes

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from sprat_proto.assignment import Assignment
from sprat_proto.audit_events import Tag
from sprat_proto.merkle import EMPTY_ROOT
from tuf.api.metadata import MetaFile, Snapshot, Timestamp

from sprat_controller.audit.restoration import Restoration, State
from sprat_controller.clock import Clock
from sprat_controller.errors import RequestError
from sprat_controller.fleet.keys import read_csr
from sprat_controller.fleet.rate import Bucket, take
from sprat_controller.signer import limits as rules
from sprat_controller.signer.authority import (
    CRL_LIFE,
    DEVICE_LIFE,
    SERVER_LIFE,
    Issuer,
    PublicKey,
)
from sprat_controller.signer.keys import PrivateKey, tuf_signer
from sprat_controller.signer.limits import Limits
from sprat_controller.signer.plan import make_plan
from sprat_controller.signer.port import (
    CertificateRequest,
    IssuedCertificate,
    IssuedPlan,
    LogState,
    PlannedTarget,
    SignedTimestamp,
    SignerRefusedError,
)
from sprat_controller.signer.records import Records
from sprat_controller.trust.words import seal

PLAN_LIFE: Final = timedelta(days=7)
SNAPSHOT_LIFE: Final = timedelta(days=30)
TIMESTAMP_LIFE: Final = timedelta(days=7)


@dataclass(frozen=True)
class Keys:
    """The online keys."""

    director: PrivateKey
    image: PrivateKey  # snapshot and timestamp
    issuer: ec.EllipticCurvePrivateKey
    issuer_certificate: x509.Certificate
    # The issuer before: of its certificates, too, there must be a list of those revoked.
    former: Issuer | None = None
    # Of the audit log's checkpoints.
    log: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    # The one before signs beside it, for who has no other yet, until it is forgotten.
    former_log: ed25519.Ed25519PrivateKey | None = None


class SignerCore:
    """Implements `port.Signer`; any thread."""

    def __init__(
        self,
        keys: Keys,
        records: Records,
        clock: Clock,
        limits: Limits | None = None,
        *,
        device_life: timedelta = DEVICE_LIFE,
    ) -> None:
        """Sign with `keys`, remember in `records`; device certificates live for `device_life`."""
        self._director = tuf_signer(keys.director)
        self._image = tuf_signer(keys.image)
        self._issuer = Issuer(keys.issuer_certificate, keys.issuer)
        self._former = keys.former
        self._log = keys.log
        self._log_keys = (keys.log, *((keys.former_log,) if keys.former_log else ()))
        self._origin = origin_of(keys.issuer_certificate)
        self._records = records
        self._clock = clock
        self._limits = limits or Limits()
        self._device_life = device_life
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        with records.transaction():
            ids = (self._director.public_key.keyid, self._image.public_key.keyid)
            if records.begin_with(*ids):
                detail = {"director": ids[0], "image": ids[1]}
                records.note(Tag.SIGNER_KEYS_REPLACED, "signer", "success", clock(), detail)

    def issue_plan(self, assignment: Assignment, targets: Sequence[PlannedTarget]) -> IssuedPlan:
        """Return new director metadata for the assignment's device; see `Signer`."""
        now, device_id = self._clock(), assignment.device_id
        subject = f"device/{device_id[:80]}"
        with self._lock, self._records.transaction() as records:
            last, assigned = records.plan(device_id)
            problem = self._too_fast(rules.PLAN, now) or rules.why_no_plan(
                assignment,
                tuple(targets),
                signed_before=assigned,
                is_revoked=records.is_revoked(device_id),
            )
            version = max(last + 1, int(now.timestamp()))
            if problem is None:
                expires = _whole(now + PLAN_LIFE)
                issued = make_plan(assignment, targets, version, expires, self._director)
                problem = rules.why_too_large(len(issued.targets))
                if problem is None:
                    records.keep_plan(device_id, version, assignment.version)
                    detail = {"version": version, "assignment": assignment.version}
                    records.note(Tag.SIGNER_PLAN_ISSUED, subject, "success", now, detail)
                    return issued
        raise self._refused(Tag.SIGNER_PLAN_REFUSED, subject, problem, now)

    def sign_timestamp(self, roles: Mapping[str, int]) -> SignedTimestamp:
        """Return image metadata that names these versions; see `Signer`."""
        now = self._clock()
        with self._lock, self._records.transaction() as records:
            problem = self._too_fast(rules.TIMESTAMP, now) or rules.why_no_timestamp(
                roles, records.roles()
            )
            if problem is None:
                # A snapshot each time: the caller may have lost the last one, or the key is new.
                snapshot, timestamp = (version + 1 for version in records.online())
                records.keep_roles(roles)
                records.keep_online(snapshot, timestamp)
                detail = {"snapshot": snapshot, "timestamp": timestamp}
                records.note(Tag.SIGNER_TIMESTAMP_SIGNED, "image", "success", now, detail)
                return SignedTimestamp(
                    snapshot_version=snapshot,
                    snapshot=self._snapshot(roles, snapshot, now),
                    timestamp_version=timestamp,
                    timestamp=self._timestamp(snapshot, timestamp, now),
                )
        raise self._refused(Tag.SIGNER_TIMESTAMP_REFUSED, "image", problem, now)

    def issue_certificate(self, request: CertificateRequest) -> IssuedCertificate:
        """Return a new certificate; see `Signer`."""
        now, subject = self._clock(), f"{request.kind}/{request.name[:80]}"
        public: PublicKey | None = None
        try:
            public = _public_key(read_csr(request.csr_pem.decode(errors="replace")).pem)
            problem = None
        except RequestError as error:
            problem = error.message
        with self._lock, self._records.transaction() as records:
            problem = (
                problem
                or self._too_fast(rules.CERTIFICATE, now)
                or rules.why_no_certificate(
                    request, self._limits, is_revoked=records.is_revoked(request.name)
                )
                or rules.why_no_issuer(self._issuer.ends_at, now)
            )
            if problem is None and public is not None:
                issued = self._issuer.certify(
                    request.kind,
                    request.name[:64],
                    public,
                    now,
                    life=self._device_life if request.kind == "device" else SERVER_LIFE,
                    alternatives=request.alternatives,
                )
                detail = {"serial": issued.serial}
                records.note(Tag.SIGNER_CERTIFICATE_ISSUED, subject, "success", now, detail)
                return issued
        raise self._refused(Tag.SIGNER_CERTIFICATE_REFUSED, subject, problem, now)

    def revoke(self, device_id: str, serials: Sequence[str]) -> None:
        """Never sign for the device again; see `Signer`."""
        now = self._clock()
        with self._lock, self._records.transaction() as records:
            # A controller that starts tells all that it ever removed.
            if not records.revoke(device_id, serials, now):
                return
            detail = {"serials": list(serials)}
            records.note(
                Tag.SIGNER_DEVICE_REVOKED, f"device/{device_id[:80]}", "success", now, detail
            )

    def revocation_list(self) -> bytes:
        """Return the list of revoked certificates; see `Signer`."""
        now = self._clock()
        with self._lock, self._records.transaction() as records:
            # What has ended by itself need not be listed; servers' certificates live longest.
            revoked = records.revoked_since(now - SERVER_LIFE - CRL_LIFE)
            detail = {"revoked": len(revoked)}
            records.note(Tag.SIGNER_REVOCATIONS_SIGNED, "authority", "success", now, detail)
        issuers = [self._issuer]
        if self._former is not None and self._former.ends_at > now:
            issuers.append(self._former)
        return b"".join(one.revocation_list(revoked, now) for one in issuers)

    def log_state(self) -> LogState:
        """Return how far the audit log was signed; see `Signer`."""
        with self._lock, self._records.transaction() as records:
            size, _ = records.checkpoint() or (0, b"")
        return LogState(str(notes.verifier_key(self._log, self._origin)), size)

    def sign_checkpoint(self, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        """Return a checkpoint of the audit log; see `Signer`."""
        now, subject = self._clock(), f"log/{self._origin}"
        with self._lock, self._records.transaction() as records:
            signed = records.checkpoint()
            problem = self._too_fast(rules.CHECKPOINT, now) or rules.why_no_checkpoint(
                signed, size, root, proof
            )
            if problem is None:
                text = str(notes.Checkpoint(self._origin, size, root))
                note = self._signed_by_log(text)
                if signed is None or signed[0] != size:
                    records.keep_checkpoint(size, root)
                    detail = {"size": size, "root": root.hex()}
                    tag = Tag.SIGNER_CHECKPOINT_SIGNED
                    records.note(tag, subject, "success", now, detail)
                return str(note)
        raise self._refused(Tag.SIGNER_CHECKPOINT_REFUSED, subject, problem, now)

    def log_signed(self) -> tuple[int, bytes] | None:
        """Return size and root of the audit log as they were signed last; None: never."""
        with self._lock, self._records.transaction() as records:
            return records.checkpoint()

    def log_keys(self) -> list[notes.VerifierKey]:
        """Return what verifies the audit log: its key, and the one before if it still signs."""
        return [notes.verifier_key(key, self._origin) for key in self._log_keys]

    def restorations(self) -> list[str]:
        """Return the statement of each restoration of the audit log, oldest first."""
        with self._lock, self._records.transaction() as records:
            return records.restored()

    def restore_log(self, size: int, root: bytes, reason: str) -> str:
        """Let the audit log go on from a state that does not follow what was signed.

        Who may do this holds the key: it is no verb of the process. Both states are kept, and
        stand in the statement that is returned, signed (`restoration.Restoration`).
        """
        now = self._clock()
        with self._lock, self._records.transaction() as records:
            old = records.checkpoint() or (0, EMPTY_ROOT)
            made = Restoration(
                self._origin, len(records.restored()) + 1, State(*old), State(size, root)
            )
            note = self._signed_by_log(str(made))
            records.keep_checkpoint(size, root)
            records.keep_restored(str(note), now)
            detail = {
                "before": {"size": old[0], "root": old[1].hex()},
                "after": {"size": size, "root": root.hex()},
                "reason": reason,
            }
            subject = f"log/{self._origin}"
            records.note(Tag.SIGNER_LOG_RESTORED, subject, "success", now, detail)
        return str(note)

    def close(self) -> None:
        """Close the records."""
        self._records.close()

    def _signed_by_log(self, text: str) -> notes.Note:
        return notes.Note(text).signed(
            *(notes.sign(key, self._origin, text) for key in self._log_keys)
        )

    def _snapshot(self, roles: Mapping[str, int], version: int, now: datetime) -> bytes:
        meta = {f"{role}.json": MetaFile(number) for role, number in sorted(roles.items())}
        signed = Snapshot(version=version, expires=_whole(now + SNAPSHOT_LIFE), meta=meta)
        return seal(signed, [self._image])

    def _timestamp(self, snapshot: int, version: int, now: datetime) -> bytes:
        signed = Timestamp(
            version=version, expires=_whole(now + TIMESTAMP_LIFE), snapshot_meta=MetaFile(snapshot)
        )
        return seal(signed, [self._image])

    def _too_fast(self, verb: str, now: datetime) -> str | None:
        self._buckets[verb], wait_s = take(self._buckets.get(verb), self._limits.rates[verb], now)
        if wait_s == 0:
            return None
        return f"more {verb}s were asked for than this signer gives: again in {wait_s:.0f} s"

    def _refused(
        self, tag: Tag, subject: str, problem: str | None, now: datetime
    ) -> SignerRefusedError:
        """Write a refusal down and return it."""
        said = problem or "no reason"
        with self._lock, self._records.transaction() as records:
            records.note(tag, subject, "denied", now, {"reason": said})
        return SignerRefusedError("signer_refused", said)


def origin_of(issuer: x509.Certificate) -> str:
    """Return how a fleet's audit log is called: by its root, which no other fleet has."""
    (root,) = issuer.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    return "-".join(str(root.value).lower().split()).replace("sprat-root", "sprat") + "/audit"


def _public_key(csr_pem: bytes) -> PublicKey:
    key = x509.load_pem_x509_csr(csr_pem).public_key()
    if not isinstance(key, PublicKey):
        raise TypeError(f"read_csr takes no {type(key).__name__}")
    return key


def _whole(moment: datetime) -> datetime:
    """Return the moment in whole seconds: TUF dates have no more."""
    return moment.replace(microsecond=0)
