from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner
from simulators.image_keys import NOW, ImageKeys, root_file, targets_file
from sprat_controller.trust import ceremony
from sprat_controller.trust.folder import Metadata
from sprat_controller.trust.lint import Finding, Grade, lint
from sprat_controller.trust.words import read
from sprat_proto.trust import IMAGE, manifest_path
from tuf.api.metadata import Root, TargetFile, Targets

EXPIRES = NOW + timedelta(days=1000)
CUSTOM = {"name": "acme/talk", "release_counter": 1, "hardware_ids": ["cpu-x86_64"]}


class Repository:
    """An image repository with one publisher, that a test breaks."""

    def __init__(self) -> None:
        self.keys = ImageKeys()
        self.publisher = CryptoSigner.generate_ed25519()
        self.files = self.keys.found()
        top = ceremony.next_targets(self.top(1), expires=NOW + ceremony.TARGETS_LIFE)
        ceremony.delegate(top, "acme", [self.publisher.public_key])
        self.put_top(top)
        path = manifest_path("acme", "talk", "1.0.0", "q4_0")
        target = TargetFile(10, {"sha256": "a" * 64}, path)
        target.unrecognized_fields["custom"] = dict(CUSTOM)
        role = Targets(expires=NOW + ceremony.TARGETS_LIFE, targets={path: target})
        self.put_role(role)
        self.publish({"targets": 2, "pub-acme": 1}, version=2)

    def top(self, version: int) -> Targets:
        return read(self.files[f"{version}.targets.json"], Targets, "targets").signed

    def role(self) -> Targets:
        return read(self.files["1.pub-acme.json"], Targets, "pub-acme").signed

    def root(self) -> Root:
        return read(self.files["1.root.json"], Root, "root").signed

    def put_top(self, top: Targets, signers: int = 2) -> None:
        self.files |= targets_file("targets", top, list(self.keys.targets.values())[:signers])

    def put_role(self, role: Targets) -> None:
        self.files |= targets_file("pub-acme", role, [self.publisher])

    def publish(self, roles: dict[str, int], version: int) -> None:
        self.files |= self.keys.snapshot(roles, version=version)

    def lint(self, now: datetime = NOW) -> list[Finding]:
        return lint(Metadata(IMAGE, self.files), now)


def bad(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [
        (one.grade.value, one.check, one.sentence) for one in findings if one.grade is not Grade.OK
    ]


def test_a_new_repository_has_nothing_wrong() -> None:
    found = Repository().lint()
    assert bad(found) == []
    assert [one.check for one in found] == [
        "chain",
        "thresholds",
        "expiry",
        "sizes",
        "targets",
        "dry run",
    ]


def _root_gap(repository: Repository) -> None:
    root = ceremony.next_root(IMAGE, repository.root(), expires=EXPIRES).signed
    assert isinstance(root, Root)
    root.version = 3
    repository.files |= root_file(root, repository.keys.root.values())


def _root_of_one(repository: Repository) -> None:
    root = ceremony.next_root(IMAGE, repository.root(), expires=EXPIRES).signed
    assert isinstance(root, Root)
    repository.files |= root_file(root, list(repository.keys.root.values())[:1])


def _root_by_new_keys_only(repository: Repository) -> None:
    fresh = [CryptoSigner.generate_ed25519() for _ in range(3)]
    swaps = [
        ceremony.Replacement("image-root", f"image-root-{n}", key.public_key, f"new-{n}")
        for n, key in enumerate(fresh, start=1)
    ]
    root = ceremony.next_root(IMAGE, repository.root(), replacements=swaps, expires=EXPIRES).signed
    assert isinstance(root, Root)
    repository.files |= root_file(root, fresh)


def _threshold_of_one(repository: Repository) -> None:
    root = ceremony.next_root(
        IMAGE,
        repository.root(),
        thresholds=[ceremony.Threshold("image-targets", 1)],
        expires=EXPIRES,
    ).signed
    assert isinstance(root, Root)
    repository.files |= root_file(root, repository.keys.root.values())


def _threshold_of_all(repository: Repository) -> None:
    root = ceremony.next_root(
        IMAGE, repository.root(), thresholds=[ceremony.Threshold("image-root", 3)], expires=EXPIRES
    ).signed
    assert isinstance(root, Root)
    repository.files |= root_file(root, repository.keys.root.values())


def _online_key_is_offline(repository: Repository) -> None:
    root = ceremony.next_root(IMAGE, repository.root(), expires=EXPIRES).signed
    assert isinstance(root, Root)
    root.add_key(repository.keys.online.public_key, "targets")
    repository.files |= root_file(root, repository.keys.root.values())


def _targets_of_one(repository: Repository) -> None:
    repository.put_top(repository.top(2), signers=1)


def _not_terminating(repository: Repository) -> None:
    top = repository.top(2)
    assert top.delegations is not None
    assert top.delegations.roles is not None
    top.delegations.roles["pub-acme"].terminating = False
    repository.put_top(top)


def _paths_of_others(repository: Repository) -> None:
    top = repository.top(2)
    assert top.delegations is not None
    assert top.delegations.roles is not None
    top.delegations.roles["pub-acme"].paths = ["m/*/*/*"]
    repository.put_top(top)


def _target_of_the_top(repository: Repository) -> None:
    top = repository.top(2)
    top.targets["m/acme/talk/0.9.0+q4_0.json"] = TargetFile(1, {"sha256": "b" * 64}, "m/x")
    repository.put_top(top)


def _no_custom(repository: Repository) -> None:
    role = repository.role()
    for target in role.targets.values():
        target.unrecognized_fields.clear()
    repository.put_role(role)


def _snapshot_names_a_missing_version(repository: Repository) -> None:
    repository.publish({"targets": 2, "pub-acme": 2}, version=3)


def _stranger_signs_a_role(repository: Repository) -> None:
    repository.files |= targets_file(
        "pub-acme", repository.role(), [CryptoSigner.generate_ed25519()]
    )


def _no_timestamp(repository: Repository) -> None:
    del repository.files["timestamp.json"]


def _not_metadata(repository: Repository) -> None:
    repository.files["2.targets.json"] = b"{}"


@pytest.mark.parametrize(
    ("broken", "grade", "check", "words"),
    [
        (_root_gap, "failed", "chain", "found [1, 3]"),
        (_root_of_one, "failed", "chain", "version 2 has 1 of 2 signatures by the keys before it"),
        (_root_by_new_keys_only, "failed", "chain", "version 2 has 0 of 2 signatures by the keys"),
        (_threshold_of_one, "warning", "thresholds", "one of 3 keys is enough"),
        (_threshold_of_all, "warning", "thresholds", "all 3 keys are needed"),
        (_online_key_is_offline, "failed", "thresholds", "is also offline's"),
        (_targets_of_one, "failed", "dry run", "UnsignedMetadataError"),
        (_not_terminating, "failed", "targets", "is not terminating"),
        (_paths_of_others, "failed", "targets", "expected its own paths"),
        (_target_of_the_top, "failed", "targets", "belongs into a publisher's role"),
        (_no_custom, "failed", "targets", "m/acme/talk/1.0.0+q4_0.json: Expected `object`"),
        (_snapshot_names_a_missing_version, "failed", "dry run", "there is no 2.pub-acme.json"),
        (_stranger_signs_a_role, "failed", "dry run", "UnsignedMetadataError"),
        (_no_timestamp, "failed", "dry run", "there is no timestamp.json"),
        (_not_metadata, "failed", "targets", "expected TUF metadata"),
    ],
)
def test_each_fault_is_named(
    broken: Callable[[Repository], None], grade: str, check: str, words: str
) -> None:
    repository = Repository()
    broken(repository)
    found = bad(repository.lint())
    assert [one for one in found if one[:2] == (grade, check) and words in one[2]], found


@pytest.mark.parametrize(
    ("days", "grade", "role"),
    [
        (6, "warning", "timestamp"),
        (8, "failed", "timestamp"),
        (29, "warning", "snapshot"),
        (31, "failed", "snapshot"),
        (310, "warning", "pub-acme"),
        (366, "failed", "targets"),
        (1000, "warning", "root"),
        (1100, "failed", "root"),
    ],
)
def test_what_expires_is_named_before_and_after(days: int, grade: str, role: str) -> None:
    found = Repository().lint(NOW + timedelta(days=days))
    assert (grade, "expiry", f"image {role}") in [
        (one.grade.value, one.check, one.subject) for one in found
    ]
