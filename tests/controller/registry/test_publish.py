"""A release is published whole after every check, or it is refused by the check's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import msgspec
import pytest
from simulators.models import Shape, write_model
from sprat_controller.errors import ConflictError, RefusedError, RequestError
from sprat_controller.registry import publishers
from sprat_controller.registry.blobs import BlobStore, register
from sprat_controller.registry.publish import FILE_CHECKS, ROW_CHECKS, publish
from sprat_controller.registry.signing import ReleaseTerms, build_manifest
from sprat_controller.store import queries
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord, Variant
from sprat_proto import canonical
from sprat_proto.manifest import PAYLOAD_TYPE, Activation, Manifest, encode
from sprat_proto.signing import SigningKey, generate_private_pem
from sqlmodel import select

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MODEL = "talk"


@cache
def model_file(seed: int = 0) -> Path:
    """Return a tiny model, made once."""
    path = Path(mkdtemp()) / f"{seed}.gguf"
    write_model(path, Shape(seed=seed))
    return path


@dataclass
class Desk:
    """A controller's registry, and a publisher whose key it knows."""

    database: Database
    blobs: BlobStore
    key: SigningKey

    def upload(self, data: bytes) -> str:
        sha256 = canonical.sha256_hex(data)
        upload = self.blobs.begin(sha256, len(data))
        upload.write(data)
        with self.database.transaction() as session:
            register(session, sha256, upload.finish(), NOW)
        return sha256

    def manifest(
        self, *, release: str = "1.0.0", counter: int = 1, variant: str = "q4_0"
    ) -> Manifest:
        terms = ReleaseTerms(MODEL, release, counter, Activation(), "", NOW)
        return build_manifest(model_file(), variant, terms)

    def sign(self, manifest: Manifest, key: SigningKey | None = None) -> str:
        """Upload a signed manifest."""
        return self.upload((key or self.key).sign(encode(manifest), PAYLOAD_TYPE))

    def publish(self, envelopes: Sequence[str], release: str = "1.0.0") -> bool:
        return publish(
            self.database,
            self.blobs,
            model=MODEL,
            release=release,
            envelopes=envelopes,
            actor="token:ci",
            now=NOW,
        )

    def refused(self, envelopes: Sequence[str], release: str = "1.0.0") -> tuple[str, str]:
        """Return check and message of a refusal, after a look that nothing was published."""
        before = self.variants()
        with pytest.raises(RefusedError) as refusal:
            self.publish(envelopes, release)
        assert refusal.value.code == "release_refused"
        assert self.variants() == before
        with self.database.reading() as session:
            last = session.exec(select(AuditRecord)).all()[-1]
        assert last.tag == "publisher:release:refused"
        check = str(refusal.value.details["check"])
        assert f'"check":"{check}"'.encode() in last.body
        return check, refusal.value.message

    def variants(self) -> list[str]:
        with self.database.reading() as session:
            return sorted(session.exec(select(Variant.digest)))


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    made = Desk(database, BlobStore(tmp_path / "blobs"), SigningKey(generate_private_pem()))
    with database.transaction() as session:
        publishers.add(
            session, name="me", public_pem=made.key.public_pem, actor="token:admin", now=NOW
        )
    made.upload(model_file().read_bytes())
    return made


def test_a_release_is_published_with_all_its_variants(desk: Desk) -> None:
    envelopes = [desk.sign(desk.manifest(variant=name)) for name in ("q4_0", "q8_0")]
    assert desk.publish(envelopes)
    with desk.database.reading() as session:
        release, variants = queries.release(session, MODEL, "1.0.0")
    assert release.counter == 1
    assert [(row.variant, signer.name) for row, signer in variants] == [
        ("q4_0", "me"),
        ("q8_0", "me"),
    ]
    assert {row.envelope_sha256 for row, _ in variants} == set(envelopes)


def test_publishing_the_same_again_changes_nothing(desk: Desk) -> None:
    envelopes = [desk.sign(desk.manifest())]
    assert desk.publish(envelopes)
    assert not desk.publish(envelopes)


def test_a_release_never_changes(desk: Desk) -> None:
    desk.publish([desk.sign(desk.manifest())])
    with pytest.raises(ConflictError) as refusal:
        desk.publish([desk.sign(desk.manifest(variant="q8_0"))])
    assert refusal.value.code == "release_exists"
    assert len(desk.variants()) == 1


def test_a_publisher_that_nobody_registered_is_refused(desk: Desk) -> None:
    stranger = SigningKey(generate_private_pem())
    check, message = desk.refused([desk.sign(desk.manifest(), stranger)])
    assert check == "signature"
    assert "a signature of me" in message
    assert stranger.key_id[:12] in message


def test_one_bad_variant_refuses_all(desk: Desk) -> None:
    stranger = SigningKey(generate_private_pem())
    good, bad = desk.sign(desk.manifest()), desk.sign(desk.manifest(variant="q8_0"), stranger)
    assert desk.refused([good, bad])[0] == "signature"


@pytest.mark.parametrize("payload", [b"{}", b"not json", b'{"schema": 1}'])
def test_a_signed_payload_that_is_no_manifest_is_refused(desk: Desk, payload: bytes) -> None:
    envelope = desk.upload(desk.key.sign(payload, PAYLOAD_TYPE))
    assert desk.refused([envelope])[0] == "manifest"


def test_what_was_signed_as_something_else_is_no_release(desk: Desk) -> None:
    envelope = desk.upload(desk.key.sign(encode(desk.manifest()), "application/other"))
    assert desk.refused([envelope])[0] == "signature"


def test_an_envelope_must_be_uploaded_first(desk: Desk) -> None:
    assert desk.refused(["0" * 64])[0] == "envelope"


def test_an_envelope_that_was_damaged_on_the_disk_is_refused(desk: Desk) -> None:
    envelope = desk.sign(desk.manifest())
    path = desk.blobs.path(envelope)
    path.chmod(0o600)
    path.write_bytes(b"{}")
    check, message = desk.refused([envelope])
    assert check == "envelope"
    assert "damaged" in message


def test_a_manifest_of_another_release_is_refused(desk: Desk) -> None:
    check, message = desk.refused([desk.sign(desk.manifest(release="2.0.0"))])
    assert check == "identity"
    assert "talk@1.0.0" in message
    assert "talk@2.0.0" in message


def test_two_variants_of_one_name_are_refused(desk: Desk) -> None:
    first = desk.manifest()
    second = msgspec.structs.replace(first, min_runtime="9")
    assert desk.refused([desk.sign(first), desk.sign(second)])[0] == "variants"


@pytest.mark.parametrize("counter", [1, 5])
def test_a_counter_that_does_not_rise_is_refused(desk: Desk, counter: int) -> None:
    desk.publish([desk.sign(desk.manifest(counter=5))])
    newer = desk.manifest(release="1.1.0", counter=counter)
    check, message = desk.refused([desk.sign(newer)], "1.1.0")
    assert check == "counter"
    assert "above 5" in message


def test_variants_with_different_counters_are_refused(desk: Desk) -> None:
    envelopes = [
        desk.sign(desk.manifest(variant=name, counter=counter))
        for name, counter in (("q4_0", 1), ("q8_0", 2))
    ]
    assert desk.refused(envelopes)[0] == "counter"


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


@pytest.mark.parametrize("envelopes", [[], ["0" * 64, "0" * 64], [f"{n:064x}" for n in range(65)]])
def test_a_list_of_envelopes_that_makes_no_sense_is_refused(
    desk: Desk, envelopes: list[str]
) -> None:
    with pytest.raises(RequestError) as refusal:
        desk.publish(envelopes)
    assert refusal.value.code == "bad_release"


def test_what_another_request_may_change_is_checked_inside_the_transaction() -> None:
    assert set(ROW_CHECKS) < set(FILE_CHECKS)


def test_a_publisher_and_a_key_are_known_by_one_name(desk: Desk) -> None:
    for name, key in (("me", SigningKey(generate_private_pem())), ("other", desk.key)):
        with pytest.raises(ConflictError) as refusal, desk.database.transaction() as session:
            publishers.add(
                session, name=name, public_pem=key.public_pem, actor="token:admin", now=NOW
            )
        assert refusal.value.code == "publisher_exists"


@pytest.mark.parametrize(("name", "pem", "code"), [("A b", "", "bad_name"), ("b", "x", "bad_key")])
def test_a_publisher_needs_a_name_and_a_public_key(
    desk: Desk, name: str, pem: str, code: str
) -> None:
    with pytest.raises(RequestError) as refusal, desk.database.transaction() as session:
        publishers.add(session, name=name, public_pem=pem, actor="token:admin", now=NOW)
    assert refusal.value.code == code
