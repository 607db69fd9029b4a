"""A release is published whole after every check, or it is refused by the check's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import pytest

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner, Signer
from simulators.image_keys import ImageKeys, ImageSigner, targets_file
from simulators.models import Shape, write_adapter, write_model
from sprat_controller.errors import (
    ConflictError,
    NotFoundError,
    RefusedError,
    RequestError,
    UnavailableError,
)
from sprat_controller.publisher.manifests import ReleaseTerms, build_manifest
from sprat_controller.registry.blobs import BlobStore, register
from sprat_controller.registry.publish import (
    FILE_CHECKS,
    ROW_CHECKS,
    Parts,
    Request,
    publish,
    retire,
)
from sprat_controller.rollout import targets as rollout_targets
from sprat_controller.store import queries
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, Variant
from sprat_controller.trust import ceremony, repository
from sprat_controller.trust.dry_run import dry_run
from sprat_controller.trust.repository import Upload
from sprat_controller.trust.words import read, seal
from sprat_proto import canonical
from sprat_proto.manifest import Activation, Adapter, Evaluation, Manifest, encode
from sprat_proto.trust import DIRECTOR, IMAGE, custom_of, path_of
from sqlmodel import select
from tuf.api.metadata import TargetFile, Targets

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
MODEL = "talk"


@cache
def model_file(seed: int = 0) -> Path:
    """Return a tiny model, made once."""
    path = Path(mkdtemp()) / f"{seed}.gguf"
    write_model(path, Shape(seed=seed))
    return path


class Desk:
    """A controller's registry, and the publishers `me` and `you` that it knows."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.blobs = database, BlobStore(folder / "blobs")
        self.keys = ImageKeys()
        self.signer = ImageSigner(self.keys.online, self.keys.director)
        self.publishers: dict[str, Signer] = {
            name: CryptoSigner.generate_ed25519() for name in ("me", "you")
        }
        founded = self.keys.found(NOW)
        files = {name: founded[name] for name in ("1.root.json", "1.targets.json")}
        top = read(files["1.targets.json"], Targets, "targets").signed
        top = ceremony.next_targets(top, expires=NOW + ceremony.TARGETS_LIFE)
        for name, key in self.publishers.items():
            ceremony.delegate(top, name, [key.public_key])
        with database.transaction() as session:
            director = self.keys.found_director(NOW)
            repository.found(session, self.signer, {IMAGE: files, DIRECTOR: director}, NOW)
            upload = Upload(
                IMAGE, targets_file("targets", top, self.keys.targets.values()), "token:ann", NOW
            )
            repository.publish(session, self.signer, self.blobs, upload)
        self.upload(model_file().read_bytes())

    def upload(self, data: bytes) -> str:
        sha256 = canonical.sha256_hex(data)
        upload = self.blobs.begin(sha256, len(data))
        upload.write(data)
        with self.database.transaction() as session:
            register(session, sha256, upload.finish(), actor="user:me", now=NOW)
        return sha256

    def manifest(
        self,
        *,
        release: str = "1.0.0",
        counter: int = 1,
        variant: str = "q4_0",
        publisher: str = "me",
    ) -> Manifest:
        terms = ReleaseTerms(MODEL, release, counter, Activation(), "", NOW, publisher)
        return build_manifest(model_file(), variant, terms)

    def sign(self, manifest: Manifest) -> tuple[str, TargetFile]:
        """Upload a manifest and return it as a target."""
        return self.target(path_of(manifest), encode(manifest), manifest)

    def target(self, path: str, data: bytes, like: Manifest) -> tuple[str, TargetFile]:
        self.upload(data)
        target = TargetFile.from_data(path, data, ["sha256"])
        target.unrecognized_fields["custom"] = msgspec.to_builtins(custom_of(like))
        return path, target

    def metadata(
        self,
        targets: Sequence[tuple[str, TargetFile]],
        *,
        publisher: str = "me",
        key: Signer | None = None,
        without: Sequence[str] = (),
    ) -> str:
        """Upload the next metadata of a publisher, with more targets or without some."""
        with self.database.reading() as session:
            current = repository.current(session, IMAGE)
        role, expires = f"pub-{publisher}", NOW + ceremony.TARGETS_LIFE
        made = Targets(version=1, expires=expires)
        if current.versions(role):
            before = read(current.newest(role)[1], Targets, role).signed
            made = ceremony.next_targets(before, expires=expires)
        made.targets.update(dict(targets))
        for path in without:
            del made.targets[path]
        return self.upload(seal(made, [key or self.publishers[publisher]]))

    @property
    def parts(self) -> Parts:
        return Parts(self.database, self.blobs, self.signer)

    def request(self, metadata: str, release: str = "1.0.0", publisher: str = "me") -> Request:
        return Request(MODEL, release, publisher, metadata, "token:ci", NOW)

    def publish(
        self, targets: Sequence[tuple[str, TargetFile]], release: str = "1.0.0", **how: Any
    ) -> bool:
        metadata = self.metadata(targets, **how)
        return publish(self.parts, self.request(metadata, release, how.get("publisher", "me")))

    def refused(
        self, targets: Sequence[tuple[str, TargetFile]], release: str = "1.0.0", **how: Any
    ) -> tuple[str, str]:
        """Return check and message of a refusal, after a look that nothing was published."""
        before = self.state()
        with pytest.raises(RefusedError) as refusal:
            self.publish(targets, release, **how)
        assert refusal.value.code == "release_refused"
        assert self.state() == before
        with self.database.reading() as session:
            last = session.exec(select(AuditRecord)).all()[-1]
        assert last.tag == "publisher:release:refused"
        check = str(refusal.value.details["check"])
        assert f'"check":"{check}"'.encode() in last.body
        return check, refusal.value.message

    def variants(self) -> list[str]:
        with self.database.reading() as session:
            return sorted(session.exec(select(Variant.digest)))

    def state(self) -> tuple[list[str], Mapping[str, bytes]]:
        with self.database.reading() as session:
            return self.variants(), repository.current(session, IMAGE).files

    def on_device(self, *paths: str) -> list[bool]:
        """Tell which of these a device finds."""
        files = self.state()[1]
        found = dry_run(files, files["1.root.json"], now=NOW, paths=paths)
        return [found[path] is not None for path in paths]


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return Desk(database, tmp_path)


def test_a_release_is_published_with_all_its_variants_and_a_device_finds_them(desk: Desk) -> None:
    manifests = [desk.manifest(variant=name) for name in ("q4_0", "q8_0")]
    assert desk.publish([desk.sign(one) for one in manifests])
    with desk.database.reading() as session:
        release, variants = queries.release(session, MODEL, "1.0.0")
    assert release.counter == 1
    assert [(row.variant, row.publisher) for row in variants] == [("q4_0", "me"), ("q8_0", "me")]
    assert desk.on_device(*map(path_of, manifests)) == [True, True]


def test_publishing_the_same_again_changes_nothing(desk: Desk) -> None:
    metadata = desk.metadata([desk.sign(desk.manifest())])
    assert publish(desk.parts, desk.request(metadata))
    before = desk.state()
    assert not publish(desk.parts, desk.request(metadata))
    assert desk.state() == before


@pytest.mark.parametrize("why", ["", "only devices have the sensor"])
def test_why_a_release_was_not_proved_stands_in_the_audit_log(desk: Desk, why: str) -> None:
    metadata = desk.metadata([desk.sign(desk.manifest())])
    assert publish(desk.parts, replace(desk.request(metadata), unproven=why))
    with desk.database.reading() as session:
        record = session.exec(select(AuditRecord)).all()[-1]
    assert record.tag == "publisher:release:published"
    assert (f'"unproven":"{why}"'.encode() in record.body) == bool(why)
    assert (b"unproven" in record.body) == bool(why)


def test_a_release_never_changes(desk: Desk) -> None:
    desk.publish([desk.sign(desk.manifest())])
    with pytest.raises(ConflictError) as refusal:
        desk.publish([desk.sign(desk.manifest(variant="q8_0"))])
    assert refusal.value.code == "release_exists"
    assert len(desk.variants()) == 1


def test_t4_metadata_that_a_stranger_signed_is_refused(desk: Desk) -> None:
    check, message = desk.refused([desk.sign(desk.manifest())], key=CryptoSigner.generate_ed25519())
    assert check == "signatures"
    assert "pub-me 1 has 0 of 1 signatures" in message


def test_t9_a_publisher_releases_nothing_under_another_ones_name(desk: Desk) -> None:
    target = desk.sign(desk.manifest(publisher="you"))
    assert desk.refused([target])[0] == "paths"


def test_a_models_name_belongs_to_who_published_it_first(desk: Desk) -> None:
    desk.publish([desk.sign(desk.manifest())])
    target = desk.sign(desk.manifest(publisher="you", release="2.0.0", counter=9))
    check, message = desk.refused([target], "2.0.0", publisher="you")
    assert check == "owner"
    assert "is me's" in message


@pytest.mark.parametrize("payload", [b"{}", b"not json", b'{"schema": 1}'])
def test_a_target_that_is_no_manifest_is_refused(desk: Desk, payload: bytes) -> None:
    stated = desk.manifest()
    assert desk.refused([desk.target(path_of(stated), payload, stated)])[0] == "manifest"


def test_a_manifest_must_be_uploaded_first(desk: Desk) -> None:
    path, target = desk.sign(desk.manifest())
    target.hashes["sha256"] = "0" * 64
    check, message = desk.refused([(path, target)])
    assert check == "manifest"
    assert "was not uploaded" in message


def test_metadata_must_be_uploaded_first(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="check metadata"):
        publish(desk.parts, desk.request("0" * 64))


@pytest.mark.parametrize("data", [b"{}", b"x"])
def test_what_is_no_metadata_is_refused(desk: Desk, data: bytes) -> None:
    with pytest.raises(RefusedError, match="check metadata"):
        publish(desk.parts, desk.request(desk.upload(data)))


def test_a_manifest_that_was_damaged_on_the_disk_is_refused(desk: Desk) -> None:
    path, target = desk.sign(desk.manifest())
    blob = desk.blobs.path(target.hashes["sha256"])
    blob.chmod(0o600)
    blob.write_bytes(b"{}")
    check, message = desk.refused([(path, target)])
    assert check == "manifest"
    assert "damaged" in message


def test_a_target_says_what_its_manifest_says(desk: Desk) -> None:
    path, target = desk.sign(desk.manifest())
    target.unrecognized_fields["custom"]["release_counter"] = 7
    check, message = desk.refused([(path, target)])
    assert check == "target"
    assert "release_counter=7" in message


def test_a_target_is_found_under_its_own_path_only(desk: Desk) -> None:
    stated = desk.manifest()
    other = path_of(desk.manifest(variant="q8_0"))
    assert desk.refused([desk.target(other, encode(stated), stated)])[0] == "target"


def test_metadata_without_a_release_is_refused(desk: Desk) -> None:
    assert desk.refused([])[0] == "variants"


def test_what_was_released_before_stays(desk: Desk) -> None:
    first = desk.sign(desk.manifest())
    desk.publish([first])
    target = desk.sign(desk.manifest(release="1.1.0", counter=2))
    check, message = desk.refused([target], "1.1.0", without=[first[0]])
    assert check == "kept"
    assert first[0] in message
    path, changed = desk.sign(desk.manifest())
    changed.length += 1
    assert desk.refused([target, (path, changed)], "1.1.0")[0] == "kept"


def test_without_its_signer_nothing_is_published_and_it_may_be_tried_again(desk: Desk) -> None:
    targets = [desk.sign(desk.manifest())]
    before, desk.signer.is_away = desk.state(), True
    with pytest.raises(UnavailableError):
        desk.publish(targets)
    assert desk.state() == before
    desk.signer.is_away = False
    assert desk.publish(targets)


def test_t49_a_retired_release_is_found_no_more_and_planned_no_more(desk: Desk) -> None:
    first, second = desk.manifest(), desk.manifest(release="1.1.0", counter=2)
    desk.publish([desk.sign(first)])
    desk.publish([desk.sign(second)], "1.1.0")
    gone = desk.metadata([], without=[path_of(first)])
    assert retire(desk.parts, desk.request(gone))
    assert not retire(desk.parts, desk.request(gone))
    assert desk.on_device(path_of(first), path_of(second)) == [False, True]
    with (
        desk.database.reading() as session,
        pytest.raises(ConflictError, match="was retired by its publisher"),
    ):
        rollout_targets.candidates(session, MODEL, "1.0.0")
    with desk.database.reading() as session:
        assert rollout_targets.candidates(session, MODEL, "1.1.0")
        assert queries.release(session, MODEL, "1.0.0")[0].retired_at == NOW


def test_retiring_takes_out_that_release_and_nothing_else(desk: Desk) -> None:
    first, second = desk.manifest(), desk.manifest(release="1.1.0", counter=2)
    desk.publish([desk.sign(first)])
    desk.publish([desk.sign(second)], "1.1.0")
    both = [path_of(first), path_of(second)]
    for without in (both, both[1:], []):
        with pytest.raises(RefusedError, match="check kept"):
            retire(desk.parts, desk.request(desk.metadata([], without=without)))
    with pytest.raises(NotFoundError):
        retire(desk.parts, desk.request(desk.metadata([]), "9.9.9"))
    of_another = desk.metadata([], publisher="you")
    with pytest.raises(RefusedError, match="check owner"):
        retire(desk.parts, desk.request(of_another, publisher="you"))


def test_a_manifest_of_another_release_is_refused(desk: Desk) -> None:
    check, message = desk.refused([desk.sign(desk.manifest(release="2.0.0"))])
    assert check == "identity"
    assert "talk@1.0.0" in message
    assert "talk@2.0.0" in message


@pytest.mark.parametrize("counter", [1, 5])
def test_a_counter_that_does_not_rise_is_refused(desk: Desk, counter: int) -> None:
    desk.publish([desk.sign(desk.manifest(counter=5))])
    newer = desk.manifest(release="1.1.0", counter=counter)
    check, message = desk.refused([desk.sign(newer)], "1.1.0")
    assert check == "counter"
    assert "above 5" in message


def test_variants_with_different_counters_are_refused(desk: Desk) -> None:
    targets = [
        desk.sign(desk.manifest(variant=name, counter=counter))
        for name, counter in (("q4_0", 1), ("q8_0", 2))
    ]
    assert desk.refused(targets)[0] == "counter"


def test_a_blob_that_was_not_uploaded_is_named(desk: Desk) -> None:
    manifest = desk.manifest()
    shard = msgspec.structs.replace(manifest.shards[0], sha256="1" * 64)
    check, message = desk.refused([desk.sign(msgspec.structs.replace(manifest, shards=[shard]))])
    assert check == "blobs"
    assert "1" * 64 in message


def test_a_blob_of_another_size_is_refused(desk: Desk) -> None:
    manifest = desk.manifest()
    shard = msgspec.structs.replace(manifest.shards[0], size=manifest.shards[0].size - 1)
    check, _ = desk.refused([desk.sign(msgspec.structs.replace(manifest, shards=[shard]))])
    assert check == "blobs"


def test_pieces_that_are_not_those_of_the_file_are_refused(desk: Desk) -> None:
    manifest = desk.manifest()
    pieces = ["2" * 64, *manifest.shards[0].pieces[1:]]
    shard = msgspec.structs.replace(manifest.shards[0], pieces=pieces)
    check, message = desk.refused([desk.sign(msgspec.structs.replace(manifest, shards=[shard]))])
    assert check == "model_files"
    assert "piece 0" in message


def test_a_file_that_is_no_model_is_refused(desk: Desk) -> None:
    data = b"#!/bin/sh\n" * 100
    sha256 = desk.upload(data)
    manifest = desk.manifest()
    shard = msgspec.structs.replace(
        manifest.shards[0], sha256=sha256, size=len(data), pieces=[sha256]
    )
    check, message = desk.refused([desk.sign(msgspec.structs.replace(manifest, shards=[shard]))])
    assert check == "model_files"
    assert "GGUF" in message


def test_an_evaluation_that_contradicts_itself_is_refused(desk: Desk) -> None:
    wrong = Evaluation("f16", "7" * 64, 255, 9000, 1_000_000, 990_000, loss_ppm=5)
    stated = msgspec.structs.replace(desk.manifest(), evaluation=wrong)
    check, message = desk.refused([desk.sign(stated)])
    assert check == "evaluation"
    assert "expected a loss of 1001 millionths" in message


def test_facts_are_those_of_the_file_but_for_the_publishers_words(desk: Desk) -> None:
    manifest = desk.manifest()
    facts = msgspec.structs.replace(manifest.facts, layers=manifest.facts.layers + 1)
    check, message = desk.refused([desk.sign(msgspec.structs.replace(manifest, facts=facts))])
    assert check == "model_files"
    assert "expected layers" in message
    worded = msgspec.structs.replace(manifest.facts, licence="MIT", has_tools=True)
    template = "{{ tools }}{{ messages }}"
    stated = msgspec.structs.replace(manifest, facts=worded, chat_template=template)
    assert desk.publish([desk.sign(stated)])


def test_tools_are_those_of_the_signed_template(desk: Desk) -> None:
    manifest = desk.manifest()
    facts = msgspec.structs.replace(manifest.facts, has_tools=True)
    check, message = desk.refused([desk.sign(msgspec.structs.replace(manifest, facts=facts))])
    assert check == "model_files"
    assert "follow its chat template" in message


def adapter_of(desk: Desk, base: Path, tmp_path: Path) -> Adapter:
    """Upload an adapter of a model and return what a manifest says of it."""
    data = write_adapter(tmp_path / "adapter.gguf", base, 1).read_bytes()
    sha256 = desk.upload(data)
    return Adapter("polite", sha256, len(data), [sha256])


def test_adapters_that_fit_their_model_are_published_and_count_in_its_memory(
    desk: Desk, tmp_path: Path
) -> None:
    adapter = adapter_of(desk, model_file(), tmp_path)
    desk.publish([desk.sign(msgspec.structs.replace(desk.manifest(), adapters=[adapter]))])
    with desk.database.reading() as session:
        (candidate,) = rollout_targets.candidates(session, MODEL, "1.0.0")
    assert candidate.adapters_bytes == adapter.size


def test_an_adapter_of_another_model_is_refused(desk: Desk, tmp_path: Path) -> None:
    (wide,) = write_model(tmp_path / "wide.gguf", Shape(width=128))
    stated = msgspec.structs.replace(desk.manifest(), adapters=[adapter_of(desk, wide, tmp_path)])
    check, message = desk.refused([desk.sign(stated)])
    assert check == "model_files"
    assert "adapter polite: expected" in message


def test_a_model_file_that_was_damaged_on_the_disk_is_refused(desk: Desk) -> None:
    manifest = desk.manifest()
    path = desk.blobs.path(manifest.shards[0].sha256)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    check, message = desk.refused([desk.sign(manifest)])
    assert check == "model_files"
    assert "damaged" in message


def test_facts_that_are_not_those_of_the_file_are_refused(desk: Desk) -> None:
    manifest = desk.manifest()
    facts = msgspec.structs.replace(manifest.facts, weights_bytes=1)
    check, message = desk.refused([desk.sign(msgspec.structs.replace(manifest, facts=facts))])
    assert check == "model_files"
    assert "weights_bytes 1 " in message


@pytest.mark.parametrize(
    ("model", "release", "publisher"),
    [("A b", "1.0.0", "me"), (MODEL, "one", "me"), (MODEL, "1.0.0", "../me")],
)
def test_a_request_that_makes_no_sense_is_refused(
    desk: Desk, model: str, release: str, publisher: str
) -> None:
    request = Request(model, release, publisher, "0" * 64, "token:ci", NOW)
    for act in (publish, retire):
        with pytest.raises(RequestError) as refusal:
            act(desk.parts, request)
        assert refusal.value.code == "bad_release"


def test_what_another_request_may_change_is_checked_inside_the_transaction() -> None:
    assert set(ROW_CHECKS) < set(FILE_CHECKS)
