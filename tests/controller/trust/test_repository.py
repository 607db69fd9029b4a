from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner, Signer
from simulators.image_keys import NOW, ImageKeys, ImageSigner, root_file, targets_file
from sprat_controller.errors import NotFoundError, UnavailableError
from sprat_controller.registry.blobs import BlobStore
from sprat_controller.signer.port import SignedTimestamp
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, Publisher
from sprat_controller.trust import ceremony, repository, timestamps
from sprat_controller.trust.checks import Change
from sprat_controller.trust.dry_run import dry_run
from sprat_controller.trust.folder import Metadata
from sprat_controller.trust.repository import MetadataRefusedError, Upload
from sprat_controller.trust.words import MetadataError, read
from sprat_proto.audit_events import Tag
from sprat_proto.trust import DIRECTOR, IMAGE, POLICY_PATH, manifest_path
from sqlmodel import col, select
from tuf.api.metadata import Root, TargetFile, Targets

LATER = NOW + ceremony.TARGETS_LIFE
ACME = manifest_path("acme", "talk", "1.0.0", "q4_0")


def target(
    publisher: str = "acme", *, counter: object = 1, hardware: str = "cpu-x86_64"
) -> TargetFile:
    made = TargetFile(10, {"sha256": "a" * 64}, "any")
    made.unrecognized_fields["custom"] = {
        "name": f"{publisher}/talk",
        "release_counter": counter,
        "hardware_ids": [hardware],
    }
    return made


class Desk:
    """A controller's image repository with the publishers acme and beta, and all its keys."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.blobs = database, BlobStore(folder)
        self.keys = ImageKeys()
        self.signer = ImageSigner(self.keys.online, self.keys.director)
        self.publishers = {name: CryptoSigner.generate_ed25519() for name in ("acme", "beta")}
        founded = self.keys.found()
        files = {name: founded[name] for name in ("1.root.json", "1.targets.json")}
        with database.transaction() as session:
            repository.found(
                session, self.signer, {IMAGE: files, DIRECTOR: self.keys.found_director()}, NOW
            )
        top = self.next_top()
        for name, key in self.publishers.items():
            hardware = ["cpu-x86_64"] if name == "acme" else []
            ceremony.delegate(top, name, [key.public_key], hardware_ids=hardware)
        self.publish(self.top_file(top))
        self.publish(self.role_file("acme", 1, {ACME: target()}))

    def publish(self, files: dict[str, bytes], now: datetime = NOW) -> None:
        with self.database.transaction() as session:
            upload = Upload(IMAGE, files, "token:ann", now)
            repository.publish(session, self.signer, self.blobs, upload)

    def current(self) -> Metadata:
        with self.database.reading() as session:
            return repository.current(session, IMAGE)

    def top(self) -> Targets:
        return read(self.current().newest("targets")[1], Targets, "targets").signed

    def next_top(self) -> Targets:
        return ceremony.next_targets(self.top(), expires=LATER)

    def top_file(self, top: Targets, count: int = 2) -> dict[str, bytes]:
        return targets_file("targets", top, list(self.keys.targets.values())[:count])

    def role_file(
        self,
        name: str,
        version: int,
        targets: dict[str, TargetFile],
        signers: list[Signer] | None = None,
    ) -> dict[str, bytes]:
        role = Targets(version=version, expires=LATER, targets=targets)
        return targets_file(f"pub-{name}", role, signers or [self.publishers[name]])

    def root(self) -> Root:
        return read(self.current().newest("root")[1], Root, "root").signed

    def next_root(self, **how: Any) -> Root:
        staged = ceremony.next_root(IMAGE, self.root(), expires=NOW + ceremony.ROOT_LIFE, **how)
        assert isinstance(staged.signed, Root)
        return staged.signed


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return Desk(database, tmp_path)


def test_what_is_published_is_what_a_client_finds(desk: Desk) -> None:
    files = desk.current().files
    found = dry_run(files, files["1.root.json"], now=NOW, paths=[ACME])
    assert found[ACME] is not None
    with desk.database.reading() as session:
        assert [name for name, _ in repository.names(session, DIRECTOR)] == ["1.root.json"]
        assert repository.file(session, IMAGE, "timestamp.json") == files["timestamp.json"]
        assert set(session.exec(select(Publisher.name))) == {"acme", "beta"}


@pytest.mark.parametrize("name", ["9.targets.json", "../1.root.json", "1.timestamp.json", "x"])
def test_what_is_not_published_is_not_found(desk: Desk, name: str) -> None:
    with desk.database.reading() as session, pytest.raises(NotFoundError):
        repository.file(session, IMAGE, name)


def test_a_publisher_without_metadata_disturbs_no_other(desk: Desk) -> None:
    files = desk.current().files
    mine = manifest_path("beta", "talk", "1.0.0", "q4_0")
    assert dry_run(files, files["1.root.json"], now=NOW, paths=[ACME])[ACME] is not None
    with pytest.raises(MetadataError, match="pub-beta"):
        dry_run(files, files["1.root.json"], now=NOW, paths=[mine])
    desk.publish(desk.role_file("beta", 1, {mine: target("beta")}))
    files = desk.current().files
    found = dry_run(files, files["1.root.json"], now=NOW, paths=[ACME, mine])
    assert None not in found.values()


def _nothing(_: Desk) -> dict[str, bytes]:
    return {}


def _snapshot(desk: Desk) -> dict[str, bytes]:
    return desk.keys.snapshot({"targets": 2}, version=9)


def _skips_a_version(desk: Desk) -> dict[str, bytes]:
    return desk.role_file("acme", 3, {ACME: target()})


def _again(desk: Desk) -> dict[str, bytes]:
    return desk.role_file("acme", 1, {})


def _other_version_inside(desk: Desk) -> dict[str, bytes]:
    return {"2.pub-acme.json": desk.role_file("acme", 7, {})["7.pub-acme.json"]}


def _expired(desk: Desk) -> dict[str, bytes]:
    role = Targets(version=2, expires=NOW - timedelta(days=1))
    return targets_file("pub-acme", role, [desk.publishers["acme"]])


def _too_large(desk: Desk) -> dict[str, bytes]:
    many = {
        manifest_path("acme", "talk", f"1.{number}.0", "q4_0"): target() for number in range(30_000)
    }
    return desk.role_file("acme", 2, many)


def _by_a_stranger(desk: Desk) -> dict[str, bytes]:
    return desk.role_file("acme", 2, {}, [CryptoSigner.generate_ed25519()])


def _of_nobody(desk: Desk) -> dict[str, bytes]:
    return desk.role_file("gamma", 1, {}, [CryptoSigner.generate_ed25519()])


def _publisher_leaves(desk: Desk) -> dict[str, bytes]:
    top = desk.next_top()
    assert top.delegations is not None
    assert top.delegations.roles is not None
    del top.delegations.roles["pub-beta"]
    return desk.top_file(top)


def _model_in_the_top(desk: Desk) -> dict[str, bytes]:
    top = desk.next_top()
    top.targets[ACME] = target()
    return desk.top_file(top)


def _wide_paths(desk: Desk) -> dict[str, bytes]:
    top = desk.next_top()
    assert top.delegations is not None
    assert top.delegations.roles is not None
    top.delegations.roles["pub-acme"].paths = ["m/*/*/*"]
    return desk.top_file(top)


def _not_terminating(desk: Desk) -> dict[str, bytes]:
    top = desk.next_top()
    assert top.delegations is not None
    assert top.delegations.roles is not None
    top.delegations.roles["pub-acme"].terminating = False
    return desk.top_file(top)


def _key_replaced_and_role_not_signed_anew(desk: Desk) -> dict[str, bytes]:
    top = desk.next_top()
    ceremony.delegate(top, "acme", [CryptoSigner.generate_ed25519().public_key])
    return desk.top_file(top)


def _no_custom(desk: Desk) -> dict[str, bytes]:
    return desk.role_file("acme", 2, {ACME: TargetFile(10, {"sha256": "a" * 64}, ACME)})


def _counter_as_text(desk: Desk) -> dict[str, bytes]:
    return desk.role_file("acme", 2, {ACME: target(counter="1")})


def _name_of_another(desk: Desk) -> dict[str, bytes]:
    return desk.role_file("acme", 2, {ACME: target("beta")})


def _policy_not_uploaded(desk: Desk) -> dict[str, bytes]:
    top = desk.next_top()
    ceremony.set_policy(top, POLICY_PATH, b"{}")
    return desk.top_file(top)


def _targets_keys_replaced_and_targets_not_signed_anew(desk: Desk) -> dict[str, bytes]:
    swaps = [
        ceremony.Replacement(
            "image-targets", name, CryptoSigner.generate_ed25519().public_key, f"new-{name}"
        )
        for name in desk.keys.targets
    ]
    return root_file(desk.next_root(replacements=swaps), desk.keys.root.values())


def _online_key_that_the_signer_does_not_have(desk: Desk) -> dict[str, bytes]:
    swap = ceremony.Replacement(
        "image-online", "image-online", CryptoSigner.generate_ed25519().public_key, "new"
    )
    return root_file(desk.next_root(replacements=[swap]), desk.keys.root.values())


Broken = Callable[[Desk], dict[str, bytes]]


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (_nothing, "names", "found none"),
        (_snapshot, "names", "found '9.snapshot.json'"),
        (_skips_a_version, "versions", "expected version 2 of pub-acme, found 3"),
        (_again, "versions", "expected version 2 of pub-acme, found 1"),
        (_other_version_inside, "content", "says that it is version 7"),
        (_expired, "content", "expired at"),
        (_too_large, "sizes", "a device reads at most 5000000"),
        (_by_a_stranger, "signatures", "has 0 of 1 signatures"),
        (_of_nobody, "signatures", "nobody delegates to pub-gamma"),
        (_publisher_leaves, "roles", "pub-beta may not leave"),
        (_model_in_the_top, "roles", "expected no target but"),
        (_wide_paths, "roles", "expected pub-acme to have its publisher's paths"),
        (_not_terminating, "roles", "terminating"),
        (_key_replaced_and_role_not_signed_anew, "signatures", "pub-acme 1 has 0 of 1"),
        (_no_custom, "custom", "Expected `object`"),
        (_counter_as_text, "custom", "Expected `int`, got `str`"),
        (_name_of_another, "custom", "named after its path"),
        (_policy_not_uploaded, "policy", "policy/approvers.json"),
        (_targets_keys_replaced_and_targets_not_signed_anew, "signatures", "targets 2 has 0 of 2"),
        (_online_key_that_the_signer_does_not_have, "dry run", "UnsignedMetadataError"),
    ],
)
def test_each_refusal_has_its_name_and_keeps_nothing(
    desk: Desk, broken: Broken, check: str, words: str
) -> None:
    before = desk.current()
    with pytest.raises(MetadataRefusedError) as refused:
        desk.publish(broken(desk))
    assert (refused.value.code, refused.value.details["check"]) == ("metadata_refused", check)
    assert words in refused.value.message
    assert desk.current() == before


@pytest.mark.parametrize("twice", [False, True])
def test_t4_targets_signed_by_one_of_two_are_refused(desk: Desk, *, twice: bool) -> None:
    files = desk.top_file(desk.next_top(), 1)
    if twice:
        # The same signature under a second name is no second signature.
        data = files["3.targets.json"]
        signature = data[data.index(b"[") + 1 : data.index(b"]")]
        files = {
            "3.targets.json": data.replace(b"[" + signature, b"[" + signature + b"," + signature)
        }
    with pytest.raises(MetadataRefusedError) as refused:
        desk.publish(files)
    check, words = ("content", "Multiple signatures") if twice else ("signatures", "has 1 of 2")
    assert refused.value.details["check"] == check
    assert words in refused.value.message


@pytest.mark.parametrize("roles", [{"targets": 1, "pub-acme": 1}, {"targets": 2}])
def test_t7_a_signer_that_names_old_targets_is_refused_by_the_client(
    desk: Desk, roles: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign(_: Mapping[str, int]) -> SignedTimestamp:
        return ImageSigner.sign_timestamp(desk.signer, roles)

    monkeypatch.setattr(desk.signer, "sign_timestamp", sign)
    with pytest.raises(MetadataRefusedError) as refused:
        desk.publish(desk.role_file("acme", 2, {ACME: target()}))
    assert refused.value.details["check"] == "dry run"


@pytest.mark.parametrize("which", ["timestamp_version", "snapshot_version"])
def test_t5_t6_a_signer_that_goes_back_is_refused_by_the_client(desk: Desk, which: str) -> None:
    setattr(desk.signer, which, 0)
    # Rows refuse a second file of a version, so what the client says is asked for alone.
    online = repository.sign_online(desk.signer, desk.current())
    with pytest.raises(MetadataRefusedError, match="BadVersionNumberError"):
        repository.show_to_client(Change(desk.current(), {}), online, NOW)


def test_t8_a_root_by_its_new_keys_only_is_refused(desk: Desk) -> None:
    fresh = {f"new-{name}": CryptoSigner.generate_ed25519() for name in desk.keys.root}
    swaps = [
        ceremony.Replacement("image-root", old, key.public_key, new)
        for old, (new, key) in zip(desk.keys.root, fresh.items(), strict=True)
    ]
    root = desk.next_root(replacements=swaps)
    with pytest.raises(MetadataRefusedError, match="0 of 2 signatures by the keys before it and 3"):
        desk.publish(root_file(root, fresh.values()))
    desk.publish(root_file(root, [*fresh.values(), *desk.keys.root.values()]))
    with pytest.raises(MetadataRefusedError, match="expected version 3 of root, found 2"):
        desk.publish(root_file(root, [*fresh.values(), *desk.keys.root.values()]))


def test_t8_a_root_that_skips_a_version_is_refused(desk: Desk) -> None:
    root = desk.next_root()
    root.version = 3
    with pytest.raises(MetadataRefusedError, match="expected version 2 of root, found 3"):
        desk.publish(root_file(root, desk.keys.root.values()))


def test_t9_a_publisher_signs_for_no_path_of_another(desk: Desk) -> None:
    path = manifest_path("beta", "talk", "1.0.0", "q4_0")
    with pytest.raises(MetadataRefusedError, match=r"check paths: pub-acme may not sign m/beta"):
        desk.publish(desk.role_file("acme", 2, {path: target("beta")}))


def test_t9_a_publisher_signs_for_no_hardware_that_it_may_not(desk: Desk) -> None:
    with pytest.raises(MetadataRefusedError, match=r"check hardware: .* for cpu-aarch64, only for"):
        desk.publish(desk.role_file("acme", 2, {ACME: target(hardware="cpu-aarch64")}))


def test_without_its_signer_nothing_is_published_and_it_may_be_tried_again(desk: Desk) -> None:
    files = desk.role_file("acme", 2, {ACME: target()})
    desk.signer.is_away = True
    with pytest.raises(UnavailableError, match="the signer is away"):
        desk.publish(files)
    desk.signer.is_away = False
    desk.publish(files)
    assert desk.current().newest("pub-acme")[0] == 2


def test_a_young_timestamp_is_left_alone_and_an_older_one_renewed(desk: Desk) -> None:
    before = desk.current().files["timestamp.json"]
    assert timestamps.renew_due(desk.database, desk.signer, NOW + timedelta(hours=23))
    assert desk.current().files["timestamp.json"] == before
    assert timestamps.renew_due(desk.database, desk.signer, NOW + timedelta(hours=25))
    assert desk.current().files["timestamp.json"] != before


def test_a_timestamp_that_cannot_be_renewed_is_an_alarm(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.signer.is_away = True
    assert not timestamps.renew_due(desk.database, desk.signer, NOW + timedelta(days=3))
    assert "ends on 2026-12-02 and was not renewed: the signer is away" in caplog.text
    with desk.database.reading() as session:
        tags = session.exec(select(AuditRecord.tag).order_by(col(AuditRecord.seq))).all()
    assert tags[-1] == Tag.TIMESTAMP_LATE.value


def test_the_timestamp_is_looked_at_hourly_and_alarmed_about_every_ten_minutes(desk: Desk) -> None:
    job = timestamps.TimestampJob(desk.database, desk.signer)
    desk.signer.is_away = True
    begin = NOW + timedelta(days=3)
    for seconds in range(0, 25 * 60, 10):
        job.look(begin + timedelta(seconds=seconds))
    with desk.database.reading() as session:
        tags = session.exec(select(AuditRecord.tag)).all()
    assert tags.count(Tag.TIMESTAMP_LATE.value) == 3
    desk.signer.is_away = False
    before = desk.current().files["timestamp.json"]
    job.look(begin + timedelta(minutes=29))
    assert desk.current().files["timestamp.json"] == before
    job.look(begin + timedelta(minutes=30))
    assert desk.current().files["timestamp.json"] != before


def test_a_root_of_the_director_is_not_published_before_its_signer_has_the_key(desk: Desk) -> None:
    fresh = CryptoSigner.generate_ed25519()
    swap = ceremony.Replacement("director-online", "director-online", fresh.public_key, "new")
    with desk.database.reading() as session:
        root = read(repository.file(session, DIRECTOR, "1.root.json"), Root, "root").signed
    staged = ceremony.next_root(DIRECTOR, root, replacements=[swap], expires=LATER).signed
    assert isinstance(staged, Root)
    files = root_file(staged, desk.keys.director_root.values())

    def publish() -> None:
        with desk.database.transaction() as session:
            upload = Upload(DIRECTOR, files, "token:ann", NOW)
            repository.publish(session, desk.signer, desk.blobs, upload)

    with pytest.raises(MetadataRefusedError, match=r"check dry run: .*UnsignedMetadataError"):
        publish()
    desk.signer.director = fresh
    publish()
