"""The named checks over metadata that is to be published. Pure.

A check yields what is wrong, a sentence each. What they let through is still shown to the real
client before anything is kept (`dry_run`); they are there so that a mistake has a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final, TypeAlias

import msgspec

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from sprat_proto.manifest import is_model_name
from sprat_proto.trust import (
    IMAGE,
    MAX_ROOT_BYTES,
    MAX_TARGETS_BYTES,
    POLICY_PATH,
    TargetCustom,
    publisher_of_role,
    publisher_paths,
    publisher_role,
)
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Metadata, Root, TargetFile, Targets

from sprat_controller.trust.ceremony import HARDWARE_FIELD
from sprat_controller.trust.file_names import FileName, parse_name
from sprat_controller.trust.folder import Metadata as Files
from sprat_controller.trust.words import MetadataError, read

_ROOT: Final = "root"
_TARGETS: Final = "targets"


@dataclass(frozen=True)
class Change:
    """New metadata files of a repository, and what is published before them."""

    before: Files
    added: Mapping[str, bytes]

    @cached_property
    def after(self) -> Files:
        """What will be published, save snapshot and timestamp."""
        return Files(self.before.repository, {**self.before.files, **self.added})

    @cached_property
    def names(self) -> list[FileName]:
        """The names of what is added, taken apart; those that are none are left out."""
        parsed = [parse_name(name) for name in self.added]
        return [name for name in parsed if name is not None]

    @cached_property
    def root(self) -> Metadata[Root]:
        """The newest root with the change."""
        version, data = self.after.newest(_ROOT)
        return read(data, Root, f"{version}.root.json")

    @cached_property
    def top(self) -> Metadata[Targets]:
        """The newest top-level targets with the change."""
        return _targets(self.after, _TARGETS)

    @cached_property
    def publishers(self) -> dict[str, Metadata[Targets]]:
        """The newest metadata of each publisher's role that is added, by role."""
        return {
            name.role: _targets(self.after, name.role)
            for name in self.names
            if publisher_of_role(name.role)
        }

    def delegation(self, role: str) -> DelegatedRole | None:
        """Return what the top-level targets say of a publisher's role."""
        return delegations(self.top.signed).get(role)

    def earlier(self, role: str) -> Targets | None:
        """Return a role's targets before the change; None if there were none."""
        return _targets(self.before, role).signed if self.before.versions(role) else None


Check: TypeAlias = Callable[[Change, datetime], Iterator[str]]


def delegations(targets: Targets) -> dict[str, DelegatedRole]:
    """Return the delegated roles of targets by name."""
    return dict(targets.delegations.roles or {}) if targets.delegations else {}


def fault(change: Change, now: datetime) -> tuple[str, str] | None:
    """Return the first fault as (check, sentence); None if there is none."""
    for name, check in CHECKS.items():
        try:
            sentence = next(check(change, now), None)
        except MetadataError as error:
            return name, str(error)
        if sentence is not None:
            return name, sentence
    return None


def check_names(change: Change, _now: datetime) -> Iterator[str]:
    """Only what people sign is added: roots, targets, publishers' roles."""
    if not change.added:
        yield "expected metadata, found none"
    for text in sorted(change.added):
        name = parse_name(text)
        if name is None or not _is_signed_by_people(change.before.repository, name.role):
            yield (
                f"expected roots, targets or publishers' metadata of the"
                f" {change.before.repository} repository such as 2.root.json, found {text!r}"
            )


def check_content(change: Change, now: datetime) -> Iterator[str]:
    """Each file is what its name says, and is not over already."""
    for name in change.names:
        data, what = change.added[str(name)], str(name)
        signed = (
            read(data, Root, what) if name.role == _ROOT else read(data, Targets, what)
        ).signed
        if signed.version != name.version:
            yield f"{name} says that it is version {signed.version}"
        if signed.expires <= now:
            yield f"{name} expired at {signed.expires.isoformat()}: sign it with another expiry"


def check_versions(change: Change, _now: datetime) -> Iterator[str]:
    """Each role goes on by exactly one."""
    for name in change.names:
        newest = max(change.before.versions(name.role), default=0)
        if name.version != newest + 1:
            yield f"expected version {newest + 1} of {name.role}, found {name.version}"


def check_sizes(change: Change, _now: datetime) -> Iterator[str]:
    """No file is above what a device reads (about 12,900 targets a role)."""
    for name in change.names:
        limit = MAX_ROOT_BYTES if name.role == _ROOT else MAX_TARGETS_BYTES
        size = len(change.added[str(name)])
        if size > limit:
            yield f"{name} has {size} bytes, a device reads at most {limit}: retire old releases"


def check_chain(change: Change, _now: datetime) -> Iterator[str]:
    """A new root has the signatures of the thresholds before it and of its own."""
    if not any(name.role == _ROOT for name in change.names):
        return
    versions = change.before.versions(_ROOT)
    before = (
        read(change.before.files[str(FileName(versions[-1], _ROOT))], Root, "root")
        if versions
        else None
    )
    result = change.root.signed.get_root_verification_result(
        before.signed if before else None, change.root.signed_bytes, change.root.signatures
    )
    if not result.verified:
        first, second = result.first, result.second
        yield (
            f"root {change.root.signed.version} has {len(first.signed)} of {first.threshold}"
            f" signatures by the keys before it and {len(second.signed)} of {second.threshold} by"
            " its own"
        )


def check_signatures(change: Change, _now: datetime) -> Iterator[str]:
    """All targets, also those that stay, have the signatures that roots and delegations ask for."""
    if change.before.repository != IMAGE:
        return
    yield from _unsigned(change.root.signed, _TARGETS, change.top)
    for role in _roles_to_verify(change):
        if change.delegation(role) is None:
            yield f"nobody delegates to {role}: add its publisher first"
        else:
            yield from _unsigned(change.top.signed, role, _targets(change.after, role))


def check_roles(change: Change, _now: datetime) -> Iterator[str]:
    """Publishers stay, each with its own paths only; the top level has no targets but policies."""
    if not _adds(change, _TARGETS):
        return
    earlier = change.earlier(_TARGETS)
    for name in sorted(delegations(earlier).keys() if earlier else ()):
        if change.delegation(name) is None:
            yield f"{name} may not leave: devices that know it would refuse everything; empty it"
    for path in sorted(change.top.signed.targets):
        if path != POLICY_PATH:
            yield f"expected no target but {POLICY_PATH} of the top-level role, found {path}"
    for name, role in delegations(change.top.signed).items():
        publisher = publisher_of_role(name) or ""
        if not is_model_name(publisher) or role.paths != [publisher_paths(publisher)]:
            yield f"expected {name} to have its publisher's paths, found {role.paths}"
        if not role.terminating:
            yield f"expected {name} to be terminating, or others could sign its paths"
        if not hardware_of(role, name) and _custom(role):
            yield f"expected {HARDWARE_FIELD} in the custom field of {name}, found {_custom(role)}"


def check_paths(change: Change, _now: datetime) -> Iterator[str]:
    """A publisher's role names its own targets only, and nobody else."""
    for name, metadata in change.publishers.items():
        role = change.delegation(name)
        if metadata.signed.delegations is not None:
            yield f"{name} delegates further, which no device follows"
        for path, target in metadata.signed.targets.items():
            if role is None or not role.is_delegated_path(path):
                yield f"{name} may not sign {path}, only {publisher_paths(_owner(name))}"
            if set(target.hashes) != {"sha256"}:
                yield f"{path}: expected a SHA-256 and nothing else, found {sorted(target.hashes)}"


def check_custom(change: Change, _now: datetime) -> Iterator[str]:
    """Every target says its name, its counter and its hardware: integers and strings only."""
    for name, metadata in change.publishers.items():
        for path, target in metadata.signed.targets.items():
            try:
                custom = custom_of(target)
            except msgspec.ValidationError as error:
                yield f"{path}: {error}"
                continue
            owner = custom.name.partition("/")[0]
            if publisher_role(owner) != name or not path.startswith(f"m/{custom.name}/"):
                yield f"expected {path} to be named after its path, found {custom.name!r}"
            if custom.release_counter < 1:
                yield f"expected a release counter of {path} from 1, found {custom.release_counter}"


def check_hardware(change: Change, _now: datetime) -> Iterator[str]:
    """A publisher that may sign for some hardware only signs for no other."""
    for name, metadata in change.publishers.items():
        role = change.delegation(name)
        allowed = hardware_of(role, name) if role else []
        for path, target in metadata.signed.targets.items():
            beyond = sorted(set(custom_of(target).hardware_ids) - set(allowed))
            if allowed and beyond:
                yield f"{name} may not sign {path} for {beyond[0]}, only for {', '.join(allowed)}"


CHECKS: Final[Mapping[str, Check]] = {
    "names": check_names,
    "content": check_content,
    "versions": check_versions,
    "sizes": check_sizes,
    "chain": check_chain,
    "signatures": check_signatures,
    "roles": check_roles,
    "paths": check_paths,
    "custom": check_custom,
    "hardware": check_hardware,
}


def custom_of(target: TargetFile) -> TargetCustom:
    """Return a target's custom field.

    Raises:
        msgspec.ValidationError: It is not what both sides expect.
    """
    return msgspec.convert(target.custom, TargetCustom)


def _is_signed_by_people(repository: str, role: str) -> bool:
    if role == _ROOT:
        return True
    return repository == IMAGE and (role == _TARGETS or publisher_of_role(role) is not None)


def _roles_to_verify(change: Change) -> list[str]:
    """Return whose signatures the change may break: its own; all, if delegations change."""
    if _adds(change, _TARGETS):
        return [role for role in change.after.roles() if publisher_of_role(role)]
    return list(change.publishers)


def _adds(change: Change, role: str) -> bool:
    return any(name.role == role for name in change.names)


def _unsigned(delegator: Root | Targets, role: str, metadata: Metadata[Targets]) -> Iterator[str]:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError:
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        yield (
            f"{role} {metadata.signed.version} has {len(result.signed)} of {result.threshold}"
            " signatures that it needs"
        )


def _targets(files: Files, role: str) -> Metadata[Targets]:
    version, data = files.newest(role)
    return read(data, Targets, f"{version}.{role}.json")


def _owner(role: str) -> str:
    return publisher_of_role(role) or role


def _custom(role: DelegatedRole) -> object:
    return role.unrecognized_fields.get("custom")


def hardware_of(role: DelegatedRole, name: str) -> list[str]:
    """Return for which hardware a role may sign; empty: for any."""
    custom = _custom(role)
    if custom is None:
        return []
    try:
        return msgspec.convert(custom, dict[str, list[str]]).get(HARDWARE_FIELD, [])
    except msgspec.ValidationError as error:
        raise MetadataError(f"the custom field of {name}: {error}") from error
