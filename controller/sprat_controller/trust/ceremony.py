"""What a ceremony changes: the next root or targets, unsigned, and the plan of it in words. Pure.

Nothing here holds a private key. Each key holder reads the plan and signs on a machine of their
own; a new root needs the thresholds of the old one *and* of the new one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Key
from sprat_proto import bundle
from sprat_proto.approval import Approver
from sprat_proto.bundle import OfflineRole, RoleError
from sprat_proto.trust import DIRECTOR, IMAGE, Repository, publisher_paths, publisher_role
from tuf.api.metadata import DelegatedRole, Delegations, Root, TargetFile, Targets

from sprat_controller.trust.words import MetadataError, is_meant, name_of, named, until

ROOT_LIFE: Final = timedelta(days=3 * 365)
TARGETS_LIFE: Final = timedelta(days=365)
HARDWARE_FIELD: Final = "hardware_ids"
CUSTOM_FIELD: Final = "custom"
# What people call the keys of a role, by repository; the online roles of one repository share one.
GROUPS: Final[Mapping[str, tuple[Repository, tuple[str, ...]]]] = {
    "image-root": (IMAGE, ("root",)),
    "image-targets": (IMAGE, ("targets",)),
    "image-online": (IMAGE, ("snapshot", "timestamp")),
    "director-root": (DIRECTOR, ("root",)),
    "director-online": (DIRECTOR, ("targets", "snapshot", "timestamp")),
}
_CONSEQUENCES: Final[Mapping[str, str]] = {
    "image-root": "devices follow the chain of roots at their next refresh; nothing else changes",
    "image-targets": (
        "the top-level targets must be signed anew with the new keys in the same ceremony"
    ),
    "image-online": (
        "devices forget the snapshot and timestamp they had: versions that a thief drove up (of"
        " these, of targets and of publishers) no longer stand in the way"
    ),
    "director-root": "devices get the new root with their next plan; nothing else changes",
    "director-online": (
        "every plan is signed anew; devices forget the versions and the time that the old key"
        " stated, so that what a thief drove up no longer stands in the way"
    ),
}


@dataclass(frozen=True)
class Replacement:
    """One key for another, in the roles of a group."""

    group: str
    old: str  # name or id
    new: Key
    new_name: str


@dataclass(frozen=True)
class Threshold:
    """How many keys of a group must sign."""

    group: str
    keys: int


@dataclass(frozen=True)
class Staged:
    """The next version of a role, unsigned, and what is to be known before it is signed."""

    repository: Repository
    role: str
    signed: Root | Targets
    words: tuple[str, ...]


def next_root(
    repository: Repository,
    current: Root,
    *,
    replacements: Sequence[Replacement] = (),
    thresholds: Sequence[Threshold] = (),
    offline: Sequence[Approver] | None = None,
    expires: datetime,
) -> Staged:
    """Return the root that follows `current`.

    Args:
        repository: Whose root it is.
        current: The newest published one.
        replacements: Keys to take in for others.
        thresholds: New thresholds.
        offline: Who may speak to groups by bundle from now on, two of them at a time; none: nobody;
            None: as before. Of the director only.
        expires: When the new root expires.

    Raises:
        MetadataError: A key that is not there, a group of the other repository, a threshold that
            the keys cannot meet, offline keys that are too few or not their own.
    """
    made = copy.deepcopy(current)
    made.version, made.expires = current.version + 1, expires
    for one in replacements:
        _replace(repository, made, one)
    for threshold in thresholds:
        for role in _roles(repository, threshold.group):
            made.roles[role].threshold = threshold.keys
    for role, said in made.roles.items():
        if not 1 <= said.threshold <= len(said.keyids):
            raise MetadataError(
                f"{repository} {role}: expected a threshold of 1 to {len(said.keyids)} (its keys),"
                f" found {said.threshold}"
            )
    if offline is not None:
        _set_offline(made, offline)
    words = _root_in_words(repository, current, made, [one.group for one in replacements])
    words += _offline_in_words(offline_role(current), offline_role(made))
    return Staged(repository, "root", made, tuple(words))


def offline_role(root: Root) -> OfflineRole | None:
    """Return whose word a root of the director lets count for groups; None: nobody's.

    Raises:
        MetadataError: It does not say it clearly.
    """
    try:
        return bundle.role_of(root.unrecognized_fields.get(CUSTOM_FIELD))
    except RoleError as error:
        raise MetadataError(str(error)) from error


def _set_offline(root: Root, people: Sequence[Approver]) -> None:
    custom: dict[str, object] = dict(root.unrecognized_fields.get(CUSTOM_FIELD) or {})
    custom.pop(bundle.ROLE_FIELD, None)
    if people:
        shared = [one.name for one in people if one.key.key_id in root.keys]
        if shared:
            raise MetadataError(
                f"expected offline keys that are nothing else, found {shared[0]} among the keys of"
                " the director's root: make a new one with `sprat keys generate`"
            )
        role = OfflineRole(list(people))
        custom[bundle.ROLE_FIELD] = bundle.role_to_custom(role)
    root.unrecognized_fields[CUSTOM_FIELD] = custom
    if not custom:
        del root.unrecognized_fields[CUSTOM_FIELD]
    offline_role(root)  # as devices read it


def _replace(repository: Repository, root: Root, one: Replacement) -> None:
    for role in _roles(repository, one.group):
        old = _find(root, role, one.old)
        root.revoke_key(old.keyid, role)
        root.add_key(named(one.new, one.new_name), role)


def _roles(repository: Repository, group: str) -> tuple[str, ...]:
    of, roles = GROUPS.get(group, (None, ()))
    if of != repository:
        names = ", ".join(name for name, (whose, _) in GROUPS.items() if whose == repository)
        raise MetadataError(
            f"expected keys of the {repository} repository ({names}), found {group!r}"
        )
    return roles


def _find(root: Root, role: str, text: str) -> Key:
    keys = [root.keys[key_id] for key_id in root.roles[role].keyids]
    meant = [key for key in keys if is_meant(key, text)]
    if len(meant) != 1:
        raise MetadataError(
            f"expected one of the keys of {role}, {', '.join(map(name_of, keys))}; found {text!r}"
        )
    return meant[0]


def next_targets(current: Targets, *, expires: datetime) -> Targets:
    """Return a copy of top-level targets or a publisher's role, one version on, to be changed."""
    made = copy.deepcopy(current)
    made.version, made.expires = current.version + 1, expires
    return made


def delegate(
    targets: Targets,
    publisher: str,
    keys: Sequence[Key],
    *,
    threshold: int = 1,
    hardware_ids: Sequence[str] = (),
) -> None:
    """Let a publisher sign for its own paths, in place of whatever keys it had before.

    Args:
        targets: The next top-level targets; changed.
        publisher: Its name.
        keys: Its public keys.
        threshold: How many of them must sign.
        hardware_ids: For which hardware; empty: for any.

    Raises:
        MetadataError: No key, or a threshold that the keys cannot meet.
    """
    if not 1 <= threshold <= len(keys):
        raise MetadataError(
            f"publisher {publisher}: expected a threshold of 1 to {len(keys)} (its keys), found"
            f" {threshold}"
        )
    custom: dict[str, object] = {HARDWARE_FIELD: list(hardware_ids)} if hardware_ids else {}
    role = DelegatedRole(
        name=publisher_role(publisher),
        keyids=[key.keyid for key in keys],
        threshold=threshold,
        terminating=True,
        paths=[publisher_paths(publisher)],
        unrecognized_fields={"custom": custom} if custom else {},
    )
    before = targets.delegations
    known = dict(before.keys) if before else {}
    roles = dict(before.roles or {}) if before else {}
    known.update({key.keyid: key for key in keys})
    roles[role.name] = role
    used = {key_id for one in roles.values() for key_id in one.keyids}
    kept = {key_id: key for key_id, key in known.items() if key_id in used}
    targets.delegations = Delegations(kept, roles)


def set_policy(targets: Targets, path: str, content: bytes) -> None:
    """Make `content` the file at `path`; changes `targets`."""
    targets.targets[path] = TargetFile.from_data(path, content, ["sha256"])


def targets_in_words(before: Targets, after: Targets) -> list[str]:
    """Return what changes from one version of top-level targets to another."""
    old, new = _delegated(before), _delegated(after)
    words = [f"image targets: version {before.version} -> {after.version}"]
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            words.append(f"  in: {name} may sign {_what(new[name], after)}")
        elif name not in new:
            words.append(
                f"  out: {name} (devices that know the role refuse this: empty it instead)"
            )
        elif _what(old[name], before) != _what(new[name], after):
            words.append(f"  {name}: {_what(old[name], before)} -> {_what(new[name], after)}")
    paths = sorted(before.targets.keys() | after.targets.keys())
    words += [
        f"  {path}: {'set' if path in after.targets else 'removed'}"
        for path in paths
        if before.targets.get(path) != after.targets.get(path)
    ]
    words.append(f"  expires: {until(before.expires)} -> {until(after.expires)}")
    return words


def _delegated(targets: Targets) -> Mapping[str, DelegatedRole]:
    return dict(targets.delegations.roles or {}) if targets.delegations else {}


def _what(role: DelegatedRole, targets: Targets) -> str:
    keys = targets.delegations.keys if targets.delegations else {}
    names = ", ".join(name_of(keys[key_id]) for key_id in role.keyids)
    custom = role.unrecognized_fields.get("custom", {})
    hardware = ", ".join(custom.get(HARDWARE_FIELD, [])) or "any hardware"
    return f"{', '.join(role.paths or [])} for {hardware} with {role.threshold} of {names}"


def _root_in_words(
    repository: Repository, before: Root, after: Root, groups: Iterable[str]
) -> list[str]:
    words = [f"{repository} root: version {before.version} -> {after.version}"]
    for role, new in after.roles.items():
        old = before.roles[role]
        gone = [key_id for key_id in old.keyids if key_id not in new.keyids]
        come = [key_id for key_id in new.keyids if key_id not in old.keyids]
        words += [f"  {role}: out {name_of(before.keys[key_id])}" for key_id in gone]
        words += [f"  {role}: in {name_of(after.keys[key_id])}" for key_id in come]
        if new.threshold != old.threshold:
            words.append(f"  {role}: threshold {old.threshold} -> {new.threshold}")
    words.append(f"  expires: {until(before.expires)} -> {until(after.expires)}")
    words.append("  to be signed by:")
    words += [f"    {line}" for line in _signers_in_words(before, after)]
    words += [f"  {group}: {_CONSEQUENCES[group]}" for group in dict.fromkeys(groups)]
    return words


def _offline_in_words(before: OfflineRole | None, after: OfflineRole | None) -> list[str]:
    if before == after:
        return []
    words = [f"  offline: {_people(before)} -> {_people(after)}"]
    if after is None:
        return [*words, "  offline: no bundle for a group is taken in any more, only for a device"]
    power = (
        f"  offline: {after.threshold} of these may say by bundle, with no controller, what the"
        f" devices of any group run, released models only, for {bundle.MAX_LIFE_S // 86400} days"
    )
    return [
        *words,
        power,
        "  offline: their counters begin anew; approvals are asked for as before",
    ]


def _people(role: OfflineRole | None) -> str:
    if role is None:
        return "nobody"
    names = ", ".join(f"{one.name} ({one.key.key_id[:12]})" for one in role.keys)
    return f"{role.threshold} of {names}"


def _signers_in_words(before: Root, after: Root) -> list[str]:
    old, new = before.roles["root"], after.roles["root"]
    had = ", ".join(name_of(before.keys[key_id]) for key_id in old.keyids)
    has = ", ".join(name_of(after.keys[key_id]) for key_id in new.keyids)
    lines = [f"{old.threshold} of the keys so far: {had}"]
    if old.keyids != new.keyids or old.threshold != new.threshold:
        lines.append(f"{new.threshold} of the new keys: {has}")
    return lines
