"""The image repository and the director in memory, made with python-tuf's metadata API alone.

Nothing here checks anything: whoever has a key may sign whatever they like, and a test is the thief
as well as the owner. `files()` is what the image repository serves over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner
from sprat_proto import approval, assignment, canonical, manifest, trust
from sprat_proto.approval import Approver
from sprat_proto.assignment import AssignedModel, Assignment, Policy
from sprat_proto.bundle import ROLE_FIELD, OfflineRole, role_to_custom
from sprat_proto.manifest import Manifest
from sprat_proto.v1 import link_pb2
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

NOW: Final = datetime(2026, 11, 24, tzinfo=UTC)
_COMPACT: Final = JSONSerializer(compact=True)


def new_key() -> CryptoSigner:
    """Return a new Ed25519 key."""
    return CryptoSigner.generate_ed25519()


def keys(number: int) -> list[CryptoSigner]:
    """Return so many new keys."""
    return [new_key() for _ in range(number)]


def signed(content: Any, by: Sequence[CryptoSigner]) -> bytes:
    """Return metadata (Root, Targets, Snapshot or Timestamp) signed by these keys."""
    metadata: Metadata[Any] = Metadata(content)
    for key in by:
        metadata.sign(key, append=True)
    return metadata.to_bytes(_COMPACT)


def target(path: str, data: bytes, custom: object = None) -> TargetFile:
    """Return what a repository says of a target."""
    one = TargetFile.from_data(path, data, ["sha256"])
    if custom is not None:
        one.unrecognized_fields["custom"] = custom
    return one


def target_of(one: Manifest) -> TargetFile:
    """Return what an honest repository says of a manifest."""
    custom = canonical_builtins(trust.custom_of(one))
    return target(trust.path_of(one), manifest.encode(one), custom)


def canonical_builtins(custom: trust.TargetCustom) -> dict[str, object]:
    """Return a custom field as JSON values."""
    return {
        "name": custom.name,
        "release_counter": custom.release_counter,
        "hardware_ids": list(custom.hardware_ids),
    }


class ImageWorld:
    """The image repository with all its keys; each change is published at once."""

    def __init__(self, publishers: Sequence[str] = ("acme",), now: datetime = NOW) -> None:
        self.now = now
        self.root_keys, self.targets_keys, self.online = keys(3), keys(3), new_key()
        self.publisher_keys = {name: new_key() for name in publishers}
        self.contents: dict[str, bytes] = {}  # by file name
        self.blobs: dict[str, bytes] = {}  # by SHA-256
        self.root = Root(expires=self._in(days=1095), consistent_snapshot=True)
        for role, owners, threshold in (
            ("root", self.root_keys, 2),
            ("targets", self.targets_keys, 2),
            ("snapshot", [self.online], 1),
            ("timestamp", [self.online], 1),
        ):
            for one in owners:
                self.root.add_key(one.public_key, role)
            self.root.roles[role].threshold = threshold
        delegations = Delegations({}, {})
        self.targets = Targets(expires=self._in(days=365), delegations=delegations)
        self.roles: dict[str, Targets] = {}
        self.snapshot = Snapshot(expires=self._in(days=30), meta={"targets.json": MetaFile(1)})
        self.timestamp = Timestamp(expires=self._in(days=7))
        self.version = 0  # of snapshot and timestamp
        for name, key in self.publisher_keys.items():
            self._delegate(name, key)
        self.write_root()
        self.write_targets(bump=False)
        for name in publishers:
            self.write_role(trust.publisher_role(name), bump=False)
        self.write_online()

    @property
    def pinned(self) -> bytes:
        """The root that a device is enrolled with."""
        return self.contents["1.root.json"]

    def files(self) -> Mapping[str, bytes]:
        """Return what is served, by file name."""
        return self.contents

    # What honest owners do

    def publish(self, one: Manifest, custom: dict[str, object] | None = None) -> None:
        """Release a variant."""
        data = manifest.encode(one)
        self.blobs[canonical.sha256_hex(data)] = data
        stated = target_of(one)
        if custom is not None:
            stated.unrecognized_fields["custom"] = custom
        role = trust.publisher_role(one.publisher)
        self.roles[role].targets[stated.path] = stated
        self.write_role(role)
        self.write_online()

    def retire(self, path: str) -> None:
        """Release a variant no longer."""
        role = trust.publisher_role(path.split("/")[1])
        del self.roles[role].targets[path]
        self.write_role(role)
        self.write_online()

    def limit_hardware(self, publisher: str, hardware_ids: Sequence[str]) -> None:
        """Let a publisher sign for this hardware only."""
        roles = self.targets.delegations.roles if self.targets.delegations else None
        assert roles is not None
        role = roles[trust.publisher_role(publisher)]
        role.unrecognized_fields["custom"] = {"hardware_ids": list(hardware_ids)}
        self.write_targets()
        self.write_online()

    def set_policy(self, policy: approval.ApproverPolicy) -> None:
        """Say who may approve."""
        data = approval.encode_policy(policy)
        self.blobs[canonical.sha256_hex(data)] = data
        self.targets.targets[trust.POLICY_PATH] = target(trust.POLICY_PATH, data)
        self.write_targets()
        self.write_online()

    def rotate_online(self) -> None:
        """Replace the key of snapshot and timestamp; their versions begin anew."""
        old, self.online = self.online, new_key()
        for role in ("snapshot", "timestamp"):
            self.root.revoke_key(old.public_key.keyid, role)
            self.root.add_key(self.online.public_key, role)
        self.version = 0
        self.next_root()
        self.write_online()

    def rotate_root(self) -> None:
        """Replace one root key; old and new thresholds sign."""
        old, new = self.root_keys[0], new_key()
        self.root.revoke_key(old.public_key.keyid, "root")
        self.root.add_key(new.public_key, "root")
        self.root_keys = [*self.root_keys[1:], new]
        self.next_root(also=[old])

    def rotate_targets(self) -> None:
        """Replace one key of the release managers."""
        old, new = self.targets_keys[0], new_key()
        self.root.revoke_key(old.public_key.keyid, "targets")
        self.root.add_key(new.public_key, "targets")
        self.targets_keys = [*self.targets_keys[1:], new]
        self.next_root()
        self.write_targets()
        self.write_online()

    def let_speak_offline(self, *people: Approver, threshold: int = 2) -> None:
        """Name who may speak to groups; nobody: take it away."""
        custom: dict[str, object] = {}
        if people:
            custom[ROLE_FIELD] = role_to_custom(OfflineRole(list(people), threshold))
        self.root.unrecognized_fields["custom"] = custom
        self.next_root()

    def next_root(self, also: Sequence[CryptoSigner] = ()) -> None:
        """Publish the root as it is now, as its next version."""
        self.root.version += 1
        self.root.expires = self._in(days=1095)
        self.write_root(also)

    # Signing one file at a time, as a thief of its keys may

    def write_root(self, also: Sequence[CryptoSigner] = ()) -> None:
        name = f"{self.root.version}.root.json"
        self.contents[name] = signed(self.root, [*self.root_keys, *also])

    def write_targets(self, by: Sequence[CryptoSigner] | None = None, *, bump: bool = True) -> None:
        self.targets.version += bump
        self.targets.expires = self._in(days=365)
        data = signed(self.targets, self.targets_keys if by is None else by)
        self.contents[f"{self.targets.version}.targets.json"] = data
        self.snapshot.meta["targets.json"] = MetaFile(self.targets.version)

    def write_role(self, role: str, key: CryptoSigner | None = None, *, bump: bool = True) -> None:
        content = self.roles[role]
        content.version += bump
        content.expires = self._in(days=365)
        publisher = trust.publisher_of_role(role)
        assert publisher is not None
        data = signed(content, [key or self.publisher_keys[publisher]])
        self.contents[f"{content.version}.{role}.json"] = data
        self.snapshot.meta[f"{role}.json"] = MetaFile(content.version)

    def write_online(self, version: int | None = None) -> None:
        """Sign snapshot and timestamp anew."""
        self.version = self.version + 1 if version is None else version
        self.snapshot.version = self.timestamp.version = self.version
        self.snapshot.expires, self.timestamp.expires = self._in(days=30), self._in(days=7)
        self.timestamp.snapshot_meta = MetaFile(self.version)
        self.contents[f"{self.version}.snapshot.json"] = signed(self.snapshot, [self.online])
        self.write_timestamp()

    def write_timestamp(self) -> None:
        self.contents["timestamp.json"] = signed(self.timestamp, [self.online])

    def _delegate(self, name: str, key: CryptoSigner) -> None:
        role, delegations = trust.publisher_role(name), self.targets.delegations
        assert delegations is not None
        assert delegations.roles is not None
        paths = [trust.publisher_paths(name)]
        delegations.roles[role] = DelegatedRole(role, [], 1, terminating=True, paths=paths)
        self.targets.add_key(key.public_key, role)
        self.roles[role] = Targets(expires=self._in(days=365))

    def _in(self, days: int) -> datetime:
        return self.now + timedelta(days=days)


class DirectorWorld:
    """The director with all its keys."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self.root_keys, self.online = keys(3), new_key()
        self.root = Root(expires=now + timedelta(days=1095), consistent_snapshot=False)
        for one in self.root_keys:
            self.root.add_key(one.public_key, "root")
        self.root.roles["root"].threshold = 2
        for role in ("targets", "snapshot", "timestamp"):
            self.root.add_key(self.online.public_key, role)
        self.roots = [signed(self.root, self.root_keys)]
        self.version = 0  # TUF version of what was issued last

    @property
    def pinned(self) -> bytes:
        """The root that a device is enrolled with."""
        return self.roots[0]

    def rotate(self) -> None:
        """Replace the online key: versions and times begin anew."""
        old, self.online = self.online, new_key()
        for role in ("targets", "snapshot", "timestamp"):
            self.root.revoke_key(old.public_key.keyid, role)
            self.root.add_key(self.online.public_key, role)
        self.version = 0
        self.next_root()

    def rotate_root(self) -> None:
        """Replace one root key."""
        old, new = self.root_keys[0], new_key()
        self.root.revoke_key(old.public_key.keyid, "root")
        self.root.add_key(new.public_key, "root")
        self.root_keys = [*self.root_keys[1:], new]
        self.next_root(also=[old])

    def let_speak_offline(self, *people: Approver, threshold: int = 2) -> None:
        """Name who may speak to groups; nobody: take it away."""
        custom: dict[str, object] = {}
        if people:
            custom[ROLE_FIELD] = role_to_custom(OfflineRole(list(people), threshold))
        self.root.unrecognized_fields["custom"] = custom
        self.next_root()

    def next_root(self, also: Sequence[CryptoSigner] = ()) -> None:
        self.root.version += 1
        self.root.expires = self.now + timedelta(days=1095)
        self.roots.append(signed(self.root, [*self.root_keys, *also]))

    def issue(
        self,
        custom: object,
        targets: Sequence[TargetFile],
        *,
        by: CryptoSigner | None = None,
        delegations: Delegations | None = None,
        days: float = 7,
    ) -> link_pb2.Assignment:
        """Return signed director metadata that says anything at all."""
        self.version += 1
        key, expires = by or self.online, self.now + timedelta(days=days)
        content = Targets(
            version=self.version,
            expires=expires,
            targets={one.path: one for one in targets},
            delegations=delegations,
            unrecognized_fields={} if custom is None else {"custom": custom},
        )
        meta = {"targets.json": MetaFile(self.version)}
        return link_pb2.Assignment(
            targets=signed(content, [key]),
            snapshot=signed(Snapshot(version=self.version, expires=expires, meta=meta), [key]),
            timestamp=signed(
                Timestamp(
                    version=self.version, expires=expires, snapshot_meta=MetaFile(self.version)
                ),
                [key],
            ),
            roots=self.roots[1:],
        )


@dataclass
class TufWorld:
    """Both repositories, agreeing on the time."""

    image: ImageWorld = field(default_factory=ImageWorld)
    director: DirectorWorld = field(default_factory=DirectorWorld)

    def set_time(self, now: datetime) -> None:
        """Sign as of this time from now on."""
        self.image.now = self.director.now = now

    def files(self) -> Mapping[str, bytes]:
        """Return what the image repository serves, by file name."""
        return self.image.files()

    def assignment(
        self,
        device_id: str,
        version: int,
        models: Sequence[AssignedModel],
        *,
        context: int = 256,
        approvals: Sequence[str] = (),
        issued: datetime | None = None,
    ) -> Assignment:
        return Assignment(
            schema=assignment.SCHEMA,
            device_id=device_id,
            version=version,
            issued=(issued or self.director.now).isoformat().replace("+00:00", "Z"),
            models=list(models),
            policy=Policy(context),
            approvals=list(approvals),
        )

    def plan(
        self,
        device_id: str,
        version: int,
        models: Sequence[AssignedModel],
        *,
        targets: Sequence[TargetFile] | None = None,
        context: int = 256,
        approvals: Sequence[str] = (),
        issued: datetime | None = None,
        by: CryptoSigner | None = None,
        days: float = 7,
    ) -> link_pb2.Assignment:
        """Return a plan; its targets are those of the image repository unless said otherwise."""
        stated = self.assignment(
            device_id, version, models, context=context, approvals=approvals, issued=issued
        )
        named = [self.named(one) for one in models] if targets is None else targets
        plan = self.director.issue(assignment.to_custom(stated), named, by=by, days=days)
        plan.version = version
        return plan

    def named(self, wanted: AssignedModel) -> TargetFile:
        """Return what the image repository says of a variant, or would if it released it."""
        role = self.image.roles.get(trust.publisher_role(wanted.publisher))
        found = role.targets.get(wanted.path) if role else None
        if found is not None:
            return found
        made = TargetFile(wanted.size, {"sha256": wanted.digest}, wanted.path)
        custom = {
            "name": f"{wanted.publisher}/{wanted.model}",
            "release_counter": 1,
            "hardware_ids": ["cpu-x86_64"],
        }
        made.unrecognized_fields["custom"] = custom
        return made
