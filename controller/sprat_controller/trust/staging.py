"""What is to be published next, in the folder of a ceremony: staged, signed one by one, complete.

No key is asked for before the plan was read; each signature is added on its holder's machine, and
nobody's signature depends on another's. Values in, values out: `folder` reads and writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Key, Signer
from sprat_proto.approval import Approver
from sprat_proto.trust import (
    DIRECTOR,
    IMAGE,
    POLICY_PATH,
    Repository,
    publisher_of_role,
    publisher_role,
)
from tuf.api.metadata import Metadata as Tuf
from tuf.api.metadata import Role, Root, Targets

from sprat_controller.trust import ceremony
from sprat_controller.trust.ceremony import GROUPS, ROOT_LIFE, TARGETS_LIFE, Replacement, Threshold
from sprat_controller.trust.checks import delegations, hardware_of
from sprat_controller.trust.file_names import FileName, parse_name
from sprat_controller.trust.folder import Metadata
from sprat_controller.trust.words import (
    MetadataError,
    add_signature,
    is_meant,
    is_signed_by,
    name_of,
    named,
    read,
    seal,
)


@dataclass(frozen=True)
class Wanted:
    """What a ceremony is to change.

    Attributes:
        replacements: Keys for others, in the roots.
        thresholds: New thresholds, in the roots.
        roots: Repositories whose root is signed anew in any case, for its expiry.
        publishers: New keys of publishers, by name; their metadata is staged to be signed anew.
        policy: The new content of `policy/approvers.json`.
        offline: Who may speak to groups by bundle; none: nobody; None: as before.
        expires: Of roots; None: in three years.
        after_fast_forward: Whether a thief drove versions up.
    """

    replacements: Sequence[Replacement] = ()
    thresholds: Sequence[Threshold] = ()
    roots: Sequence[Repository] = ()
    publishers: Mapping[str, Key] | None = None
    policy: bytes | None = None
    offline: Sequence[Approver] | None = None
    expires: datetime | None = None
    after_fast_forward: bool = False


@dataclass(frozen=True)
class Plan:
    """What was staged, by repository, and the whole of it in words."""

    files: Mapping[Repository, Metadata]
    words: tuple[str, ...]


_FAST_FORWARD = (
    "recovery from fast-forward: a thief who drove versions up is undone by new keys alone",
    "  timestamp, snapshot, targets, a publisher's role: rotate image-online; every device forgets",
    "  the snapshot and timestamp it had, and takes the versions that the signer goes on from",
    "  a publisher's own key was stolen too: give it a new one with --publisher in this ceremony",
    "  the director, and the time that it stated: rotate director-online; floors begin anew",
    "  rotating only the role that was driven up does not help (TUF specification, issue 150)",
)


def plan(published: Mapping[Repository, Metadata], wanted: Wanted, now: datetime) -> Plan:
    """Return the next metadata, unsigned, and the plan in words.

    Raises:
        MetadataError: Nothing is to change, or a change makes no sense.
    """
    files: dict[Repository, dict[str, bytes]] = {IMAGE: {}, DIRECTOR: {}}
    words: list[str] = []
    if wanted.after_fast_forward:
        _check_recovery(wanted)
        words += _FAST_FORWARD
    for name, metadata in published.items():
        staged = _next_root(name, metadata, wanted, now)
        if staged is not None:
            files[name][f"{staged.signed.version}.root.json"] = _unsigned(staged.signed)
            words += staged.words
    for one in _next_targets(published[IMAGE], wanted, now):
        files[IMAGE][one.name] = one.data
        words += one.words
    if not words:
        raise MetadataError("expected something to change, found nothing: see --help")
    made: dict[Repository, Metadata] = {
        name: Metadata(name, found) for name, found in files.items() if found
    }
    return Plan(made, (*words, *_missing_in_words(published, made)))


def sign(
    published: Mapping[Repository, Metadata], staged: Mapping[Repository, Metadata], signer: Signer
) -> dict[Repository, Metadata]:
    """Return the staged files that this key is to sign, with its signature.

    Raises:
        MetadataError: None of them waits for this key.
    """
    made: dict[Repository, Metadata] = {}
    for name, metadata in staged.items():
        files = {
            file: add_signature(metadata.files[file], signer, file)
            for file, keys in _signers(published[name], metadata)
            if any(signer.public_key.keyid in one.key_ids for one in keys)
        }
        if files:
            made[name] = Metadata(name, files)
    if not made:
        raise MetadataError(
            f"expected a key that the staged metadata waits for, found"
            f" {name_of(signer.public_key)}: the plan says whose"
        )
    return made


def missing(
    published: Mapping[Repository, Metadata], staged: Mapping[Repository, Metadata]
) -> list[str]:
    """Return which signatures the staged files still wait for, a line each."""
    lines: list[str] = []
    for name, metadata in staged.items():
        for file, groups in _signers(published[name], metadata):
            parsed = _read(file, metadata.files[file])
            for group in groups:
                have = [key for key in group.keys if is_signed_by(parsed, key)]
                if len(have) < group.threshold:
                    names = ", ".join(name_of(key) for key in group.keys if key not in have)
                    lines.append(f"{name} {file}: {group.threshold - len(have)} more of {names}")
    return lines


@dataclass(frozen=True)
class Signers:
    """Keys of which a threshold must sign."""

    keys: tuple[Key, ...]
    threshold: int

    @property
    def key_ids(self) -> set[str]:
        """Their ids."""
        return {key.keyid for key in self.keys}


def replacement(
    published: Mapping[Repository, Metadata], text: str, new: Key, new_name: str
) -> Replacement:
    """Return what replaces the key, or the one key of the group, that `text` names.

    Raises:
        MetadataError: Nothing is called so, or a group of several keys is.
    """
    for group, (repository, roles) in GROUPS.items():
        root = _root(published[repository])
        keys = [root.keys[key_id] for key_id in root.roles[roles[0]].keyids]
        if text == group:
            if len(keys) != 1:
                names = ", ".join(map(name_of, keys))
                raise MetadataError(f"{group} has several keys: name the one to replace of {names}")
            return Replacement(group, keys[0].keyid, new, new_name)
    for group, (repository, roles) in GROUPS.items():
        root = _root(published[repository])
        for key_id in root.roles[roles[0]].keyids:
            if is_meant(root.keys[key_id], text):
                return Replacement(group, key_id, new, new_name)
    raise MetadataError(
        f"expected the name or id of a key, or one of {', '.join(GROUPS)}; found {text!r}"
    )


@dataclass(frozen=True)
class _Made:
    name: str
    data: bytes
    words: tuple[str, ...]


def _check_recovery(wanted: Wanted) -> None:
    groups = {one.group for one in wanted.replacements}
    if not groups & {"image-online", "director-online"}:
        raise MetadataError(
            "expected --rotate image-online=NEW.pub or --rotate director-online=NEW.pub with"
            " --emergency fast-forward: only a new online key undoes it"
        )


def _next_root(
    name: Repository, metadata: Metadata, wanted: Wanted, now: datetime
) -> ceremony.Staged | None:
    replacements = [one for one in wanted.replacements if GROUPS[one.group][0] == name]
    thresholds = [one for one in wanted.thresholds if _repository_of(one.group) == name]
    offline = wanted.offline if name == DIRECTOR else None
    is_renewed = name in wanted.roots or offline is not None
    if not replacements and not thresholds and not is_renewed:
        return None
    return ceremony.next_root(
        name,
        _root(metadata),
        replacements=replacements,
        thresholds=thresholds,
        offline=offline,
        expires=wanted.expires or now.replace(microsecond=0) + ROOT_LIFE,
    )


def _repository_of(group: str) -> Repository:
    if group not in GROUPS:
        raise MetadataError(f"expected one of {', '.join(GROUPS)}, found {group!r}")
    return GROUPS[group][0]


def _next_targets(image: Metadata, wanted: Wanted, now: datetime) -> Iterator[_Made]:
    """Yield the next top-level targets, if anything of them changes, and publishers' metadata."""
    publishers = wanted.publishers or {}
    keys_change = any(one.group == "image-targets" for one in wanted.replacements)
    if not publishers and wanted.policy is None and not keys_change:
        return
    expires = now.replace(microsecond=0) + TARGETS_LIFE
    before = read(image.newest("targets")[1], Targets, "targets").signed
    after = ceremony.next_targets(before, expires=expires)
    for publisher, key in publishers.items():
        role = delegations(before).get(publisher_role(publisher))
        hardware = hardware_of(role, role.name) if role else []
        ceremony.delegate(after, publisher, [named(key, publisher)], hardware_ids=hardware)
    if wanted.policy is not None:
        ceremony.set_policy(after, POLICY_PATH, wanted.policy)
    words = tuple(ceremony.targets_in_words(before, after))
    yield _Made(f"{after.version}.targets.json", _unsigned(after), words)
    for publisher in publishers:
        role = publisher_role(publisher)
        if image.versions(role):
            own = ceremony.next_targets(
                read(image.newest(role)[1], Targets, role).signed, expires=expires
            )
            listed = [f"    {path}" for path in sorted(own.targets)]
            text = f"{role}: version {own.version}, to be signed by the publisher's new key, names"
            yield _Made(f"{own.version}.{role}.json", _unsigned(own), (text, *listed))


def _signers(published: Metadata, staged: Metadata) -> Iterator[tuple[str, list[Signers]]]:
    """Yield who must sign each staged file: of a root, the keys before it and its own."""
    after = Metadata(published.repository, {**published.files, **staged.files})
    for file in sorted(staged.files):
        name = parse_name(file)
        if name is None:
            raise MetadataError(f"expected metadata such as 2.root.json, found {file!r}")
        if name.role == "root":
            before = published.files[str(FileName(name.version - 1, "root"))]
            roots = (read(before, Root, file).signed, read(staged.files[file], Root, file).signed)
            groups = [_of(root.keys, root.roles["root"]) for root in roots]
            yield file, groups[:1] if groups[0] == groups[1] else groups
        elif publisher_of_role(name.role) is None:
            root = _root(after)
            yield file, [_of(root.keys, root.roles["targets"])]
        else:
            top = read(after.newest("targets")[1], Targets, "targets").signed
            roles = delegations(top)
            if name.role not in roles or top.delegations is None:
                raise MetadataError(f"nobody delegates to {name.role}")
            yield file, [_of(top.delegations.keys, roles[name.role])]


def _of(keys: Mapping[str, Key], role: Role) -> Signers:
    return Signers(tuple(keys[key_id] for key_id in role.keyids), role.threshold)


def _missing_in_words(
    published: Mapping[Repository, Metadata], staged: Mapping[Repository, Metadata]
) -> tuple[str, ...]:
    return ("signatures that are needed:", *(f"  {line}" for line in missing(published, staged)))


def _root(metadata: Metadata) -> Root:
    return read(metadata.newest("root")[1], Root, "root").signed


def _read(file: str, data: bytes) -> Tuf[Root] | Tuf[Targets]:
    name = parse_name(file)
    is_root = name is not None and name.role == "root"
    return read(data, Root, file) if is_root else read(data, Targets, file)


def _unsigned(signed: Root | Targets) -> bytes:
    match signed:
        case Root():
            return seal(signed, [])
        case Targets():
            return seal(signed, [])
