"""What is wrong, or soon will be, with the two repositories: before a device finds out.

`lint` looks at all that is published and judges it as a device would: the chain of roots from
version 1, thresholds and key sets, expiries, sizes, and a dry run of the real client from the first
root, from the newest root, and with the newest metadata in its cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from sprat_proto.trust import (
    IMAGE,
    MAX_ROOT_BYTES,
    MAX_ROOT_ROTATIONS,
    MAX_SNAPSHOT_BYTES,
    MAX_TARGETS_BYTES,
    MAX_TIMESTAMP_BYTES,
    POLICY_PATH,
    TargetCustom,
    publisher_of_role,
    publisher_paths,
)
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from sprat_controller.trust.dry_run import dry_run
from sprat_controller.trust.file_names import FileName
from sprat_controller.trust.folder import TIMESTAMP
from sprat_controller.trust.folder import Metadata as Files
from sprat_controller.trust.words import MetadataError, read, until

# How long before its end a role is worth a warning: time enough to hold a ceremony.
WARN_BEFORE: Final[Mapping[str, timedelta]] = {
    "root": timedelta(days=180),
    "targets": timedelta(days=60),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(days=2),
}
# Of a limit: there is time to split a role before it is full.
_NEARLY: Final = 0.8
_LIMITS: Final[Mapping[str, int]] = {
    "root": MAX_ROOT_BYTES,
    "snapshot": MAX_SNAPSHOT_BYTES,
    "timestamp": MAX_TIMESTAMP_BYTES,
}


class Grade(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One check of one thing, in a sentence."""

    grade: Grade
    check: str
    subject: str  # `image root`
    sentence: str


Check: TypeAlias = Callable[[Files, datetime], Iterator[Finding]]


def lint(files: Files, now: datetime) -> list[Finding]:
    """Return what every check finds, in order; a check that breaks off has failed."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        before = len(findings)
        try:
            findings.extend(check(files, now))
        except MetadataError as error:
            findings.append(Finding(Grade.FAILED, name, files.repository, str(error)))
        if len(findings) == before:
            findings.append(Finding(Grade.OK, name, files.repository, "nothing wrong"))
    return findings


def check_chain(files: Files, _now: datetime) -> Iterator[Finding]:
    """Every root from version 1 on is there, signed by the thresholds of the one before and own."""
    versions = files.versions("root")
    if versions != list(range(1, len(versions) + 1)):
        yield _failed("chain", files, "root", f"expected versions 1, 2, 3, ..., found {versions}")
        return
    roots = [_root(files, version) for version in versions]
    for version, metadata in enumerate(roots, start=1):
        if metadata.signed.version != version:
            yield _failed(
                "chain",
                files,
                "root",
                f"{version}.root.json says version {metadata.signed.version}",
            )
            return
    for before, after in zip([None, *roots], roots, strict=False):
        said = before.signed if before else None  # the first is signed by its own keys alone
        result = after.signed.get_root_verification_result(
            said, after.signed_bytes, after.signatures
        )
        if not result.verified:
            first, second = result.first, result.second
            yield _failed(
                "chain",
                files,
                "root",
                f"version {after.signed.version} has {len(first.signed)} of {first.threshold}"
                f" signatures by the keys before it and {len(second.signed)} of {second.threshold}"
                " by its own",
            )
    if len(versions) > MAX_ROOT_ROTATIONS:
        yield Finding(
            Grade.WARNING,
            "chain",
            f"{files.repository} root",
            f"{len(versions)} versions: a device that knows the first needs more than one refresh",
        )


def check_thresholds(files: Files, _now: datetime) -> Iterator[Finding]:
    """Offline roles need two people; a root of one key is one theft away."""
    root = _newest_root(files).signed
    offline = ("root", "targets") if files.repository == IMAGE else ("root",)
    for role in offline:
        said = root.roles[role]
        if said.threshold < 2:  # noqa: PLR2004 - two people
            yield Finding(
                Grade.WARNING,
                "thresholds",
                f"{files.repository} {role}",
                f"one of {len(said.keyids)} keys is enough: a single theft",
            )
        if said.threshold == len(said.keyids):
            yield Finding(
                Grade.WARNING,
                "thresholds",
                f"{files.repository} {role}",
                f"all {len(said.keyids)} keys are needed: a single loss ends it",
            )
    online = set(root.roles["timestamp"].keyids) | set(root.roles["snapshot"].keyids)
    shared = online & {key_id for role in offline for key_id in root.roles[role].keyids}
    if shared:
        yield _failed(
            "thresholds",
            files,
            "root",
            f"the online key {min(shared)[:12]} is also offline's",
        )


def check_expiry(files: Files, now: datetime) -> Iterator[Finding]:
    """What has expired, and what soon will."""
    for role, expires in _expiries(files):
        kind = role if role in WARN_BEFORE else "targets"
        if expires <= now:
            yield _failed("expiry", files, role, f"expired on {until(expires)}: sign it anew")
        elif expires - now <= WARN_BEFORE[kind]:
            yield Finding(
                Grade.WARNING,
                "expiry",
                f"{files.repository} {role}",
                f"expires on {until(expires)}: sign it anew before",
            )


def check_sizes(files: Files, _now: datetime) -> Iterator[Finding]:
    """No file is above what the client reads."""
    for name, data in sorted(files.files.items()):
        parsed = _role_of(name)
        limit = _LIMITS.get(parsed, MAX_TARGETS_BYTES)
        if len(data) > limit:
            yield _failed(
                "sizes", files, parsed, f"{name} has {len(data)} bytes, a device reads {limit}"
            )
        elif len(data) > limit * _NEARLY:
            yield Finding(
                Grade.WARNING,
                "sizes",
                f"{files.repository} {parsed}",
                f"{name} has {len(data)} of at most {limit} bytes",
            )


def check_targets(files: Files, _now: datetime) -> Iterator[Finding]:
    """Delegations are terminating and of one publisher; targets have what devices compare."""
    if files.repository != IMAGE:
        return
    _, data = files.newest("targets")
    top = read(data, Targets, "targets").signed
    for path in top.targets:
        if path != POLICY_PATH:
            yield _failed("targets", files, "targets", f"{path} belongs into a publisher's role")
    for name, role in (top.delegations.roles or {} if top.delegations else {}).items():
        publisher = publisher_of_role(name)
        if publisher is None or role.paths != [publisher_paths(publisher)]:
            yield _failed("targets", files, name, f"may sign {role.paths}, expected its own paths")
        if not role.terminating:
            yield _failed("targets", files, name, "is not terminating: others could sign its paths")
        if files.versions(name):
            yield from _of_publisher(files, name)


def _of_publisher(files: Files, role: str) -> Iterator[Finding]:
    signed = read(files.newest(role)[1], Targets, role).signed
    if signed.delegations is not None:
        yield _failed("targets", files, role, "delegates further, which no device follows")
    for path, target in signed.targets.items():
        try:
            msgspec.convert(target.custom, TargetCustom)
        except msgspec.ValidationError as error:
            yield _failed("targets", files, role, f"{path}: {error}")


def check_dry_run(files: Files, now: datetime) -> Iterator[Finding]:
    """The client itself: from the first root, from the newest, and with what it has already."""
    if files.repository != IMAGE:
        return  # the rest of the director's metadata is made for each device when it is asked for
    first = files.files[str(FileName(1, "root"))]
    newest = files.newest("root")[1]
    cached = {TIMESTAMP: files.files[TIMESTAMP]} if TIMESTAMP in files.files else {}
    for role in ("snapshot", "targets"):
        cached[f"{role}.json"] = files.newest(role)[1]
    runs: tuple[tuple[str, bytes, Mapping[str, bytes]], ...] = (
        ("from root 1 with an empty cache", first, {}),
        ("from the newest root with an empty cache", newest, {}),
        ("from root 1 with the newest metadata", first, cached),
    )
    paths = _some_paths(files)
    for what, root, has in runs:
        try:
            found = dry_run(files.files, root, now=now, cached=has, paths=paths)
        except MetadataError as error:
            yield _failed("dry run", files, "client", f"{what}: {error}")
            continue
        missing = [path for path, target in found.items() if target is None]
        if missing:
            yield _failed("dry run", files, "client", f"{what}: does not find {missing[0]}")


CHECKS: Final[Mapping[str, Check]] = {
    "chain": check_chain,
    "thresholds": check_thresholds,
    "expiry": check_expiry,
    "sizes": check_sizes,
    "targets": check_targets,
    "dry run": check_dry_run,
}


def _some_paths(files: Files) -> list[str]:
    """Return one path of each publisher, so that every delegation is walked once."""
    paths: list[str] = []
    for role in files.roles():
        if publisher_of_role(role) is not None:
            signed = read(files.newest(role)[1], Targets, role).signed
            paths += list(signed.targets)[:1]
    return paths


def _expiries(files: Files) -> Iterator[tuple[str, datetime]]:
    yield "root", _newest_root(files).signed.expires
    if TIMESTAMP in files.files:
        yield "timestamp", read(files.files[TIMESTAMP], Timestamp, TIMESTAMP).signed.expires
    for role in files.roles():
        if role == "snapshot":
            yield role, read(files.newest(role)[1], Snapshot, role).signed.expires
        elif role != "root":
            yield role, read(files.newest(role)[1], Targets, role).signed.expires


def _root(files: Files, version: int) -> Metadata[Root]:
    name = str(FileName(version, "root"))
    return read(files.files[name], Root, f"{files.repository} {name}")


def _newest_root(files: Files) -> Metadata[Root]:
    version, data = files.newest("root")
    return read(data, Root, f"{files.repository} {version}.root.json")


def _role_of(name: str) -> str:
    return "timestamp" if name == TIMESTAMP else name.split(".", 1)[1].removesuffix(".json")


def _failed(check: str, files: Files, role: str, sentence: str) -> Finding:
    return Finding(Grade.FAILED, check, f"{files.repository} {role}", sentence)
