"""What the image repository releases, as far as this device has seen. Blocking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sprat_proto import approval, canonical
from sprat_proto.approval import ApproverPolicy, PolicyError
from sprat_proto.trust import IMAGE, POLICY_PATH, publisher_role

from sprat_agent.audit.intents import Intents
from sprat_agent.registry import evidence, metadata
from sprat_agent.registry.metadata import ROOT
from sprat_agent.registry.named import Named
from sprat_agent.registry.refresh import refreshed, root_version
from sprat_agent.registry.remote import Remote
from sprat_agent.registry.source import MemorySource, Source, SourceError
from sprat_agent.registry.tuf_client import Anchor, Look, MetadataRefusedError, look, named_in
from sprat_agent.state import State

_POLICY: Final = "SELECT data FROM approver_policy WHERE sha256 = ?"


@dataclass(frozen=True)
class Proof:
    """What the image repository says of a path, and what proves it; None: it does not name it."""

    named: Named | None
    evidence: bytes


class ImageRepository:
    """Refreshes the rows of the image repository and reads them; usable from any thread."""

    def __init__(
        self,
        state: State,
        anchor: Anchor,
        remote: Remote,
        time: Callable[[], datetime],
        intents: Intents | None = None,
    ) -> None:
        """Follow one repository.

        Args:
            state: Whose rows hold what was verified.
            anchor: Where trust begins.
            remote: Where newer metadata is.
            time: The time by which expiry is judged.
            intents: Where it is written down that another root is trusted; None: nowhere.
        """
        self._intents = intents
        self._state = state
        self._anchor = anchor
        self._remote = remote
        self._time = time
        self._lock = threading.Lock()

    def refresh(self, at: datetime | None = None) -> None:
        """Verify the newest metadata there is, and keep it with the policy that it names.

        Args:
            at: The time by which expiry is judged; None: now. See `Judge`.

        Raises:
            MetadataRefusedError: It does not verify.
            SourceError: It could not be had.
        """
        with self._lock, self._remote.opened() as sources:
            time = self._at(at)
            with refreshed(self._state, self._anchor, sources.metadata, time, self._intents):
                pass
            self._fetch_policy(sources.blobs)

    def prove(self, path: str, publisher: str, at: datetime | None = None) -> Proof:
        """Return what the newest metadata says of a path.

        Where none can be had, what was verified before is good as long as it has not expired.

        Args:
            path: Of the target.
            publisher: Who signed for it.
            at: The time by which expiry is judged; None: now. See `Judge`.

        Raises:
            MetadataRefusedError: It does not verify.
            SourceError: It could not be had, and what was verified before has expired.
        """
        try:
            with (
                self._lock,
                self._remote.opened() as sources,
                refreshed(
                    self._state, self._anchor, sources.metadata, self._at(at), self._intents
                ) as seen,
            ):
                return _proof(seen, path, publisher)
        except SourceError as error:
            try:
                return self._prove_from_rows(path, publisher, at)
            except (SourceError, MetadataRefusedError):
                raise error from None

    def root_version(self) -> int:
        """Return the version of the newest root."""
        with self._state.reading() as connection:
            return root_version(self._anchor, metadata.read(connection, IMAGE))

    def policy(self) -> ApproverPolicy:
        """Return who may approve, as the newest targets that were verified say.

        Raises:
            SourceError: The repository was never verified here, or its policy did not come yet.
        """
        named = self._policy_named()
        if named is None:
            return approval.NOBODY
        with self._state.reading() as connection:
            row = connection.execute(_POLICY, (named.sha256,)).fetchone()
        if row is None:
            raise SourceError(f"{POLICY_PATH} of the image repository did not come yet")
        return approval.decode_policy(bytes(row[0]))

    def _policy_named(self) -> Named | None:
        with self._state.reading() as connection:
            targets = metadata.read_role(connection, IMAGE, "targets")
        if targets is None:
            raise SourceError("the image repository was not verified yet")
        return named_in(targets.data, POLICY_PATH)

    def _prove_from_rows(self, path: str, publisher: str, at: datetime | None) -> Proof:
        with self._state.reading() as connection:
            rows = metadata.read(connection, IMAGE)
        with look(self._anchor, rows, MemorySource(metadata.files(rows)), self._at(at)) as seen:
            seen.refresh()
            return _proof(seen, path, publisher)

    def _fetch_policy(self, blobs: Source) -> None:
        """Have the policy that the newest targets name."""
        named = self._policy_named()
        if named is None:
            return
        with self._state.reading() as connection:
            if connection.execute(_POLICY, (named.sha256,)).fetchone():
                return
        data = _read_policy(named, blobs)
        with self._state.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO approver_policy VALUES (1, ?, ?)", (named.sha256, data)
            )

    def _at(self, at: datetime | None) -> Callable[[str], datetime]:
        return lambda _keys: at or self._time()


def _proof(seen: Look, path: str, publisher: str) -> Proof:
    named, roles = seen.named(path), {"timestamp", "snapshot", "targets", publisher_role(publisher)}
    rows: Sequence[metadata.Row] = seen.verified().rows
    judged_at = seen.judged_at
    if judged_at is None:
        raise AssertionError("refreshed before")
    needed = [row for row in rows if row.role == ROOT or row.role in roles]
    return Proof(named, evidence.encode(needed, judged_at))


def _read_policy(named: Named, blobs: Source) -> bytes:
    data = b""
    for piece in blobs.read(f"sha256/{named.sha256}"):
        data += piece
        if len(data) > min(named.length, approval.MAX_POLICY_BYTES):
            break
    if len(data) != named.length or canonical.sha256_hex(data) != named.sha256:
        raise SourceError(f"{named.path} did not come as it was signed")
    try:
        approval.decode_policy(data)
    except PolicyError as error:
        raise MetadataRefusedError("PolicyError", f"{named.path}: {error}") from error
    return data
