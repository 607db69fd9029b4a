from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner
from simulators import demo_model
from simulators.models import Shape, write_adapter, write_model
from sprat_controller.publisher.manifests import (
    AdapterSource,
    BuiltVariant,
    ReleaseTerms,
    build_manifest,
)
from sprat_controller.publisher.signing import (
    generate_key_files,
    load_key,
    release_prefix,
    with_release,
    without_release,
)
from sprat_controller.trust.words import MetadataError, read
from sprat_proto import gguf, manifest
from sprat_proto.manifest import PIECE_SIZE, Activation, Evaluation
from sprat_proto.policy import Aim, FitPolicy
from sprat_proto.signing import KeyFileError
from tuf.api.metadata import Targets

TERMS = ReleaseTerms(
    model="talk",
    release="1.0.0",
    counter=3,
    activation=Activation(soak_s=5),
    licence="",
    created=datetime(2026, 11, 23, 10, 0, tzinfo=UTC),
    publisher="me",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_model.make(tmp_path_factory.mktemp("model") / "talk.gguf")


def test_a_variants_digest_is_its_manifests(model: Path) -> None:
    built = BuiltVariant(model, build_manifest(model, "f16", TERMS))
    assert manifest.decode(built.payload) == built.manifest
    assert built.digest == hashlib.sha256(built.payload).hexdigest()
    assert 16 <= built.bits_per_weight < 17


def test_a_release_comes_into_and_out_of_its_publishers_metadata(model: Path) -> None:
    key = CryptoSigner.generate_ed25519()
    built = BuiltVariant(model, build_manifest(model, "f16", TERMS))
    first = with_release(None, [built], key, TERMS.created)
    second = without_release(first, release_prefix("me", "talk", "1.0.0"), key, TERMS.created)
    signed = read(second, Targets, "pub-me").signed
    assert (signed.version, signed.targets) == (2, {})
    assert (signed.expires - TERMS.created).days == 365
    with pytest.raises(MetadataError, match="found none"):
        without_release(second, release_prefix("me", "talk", "1.0.0"), key, TERMS.created)
    with pytest.raises(MetadataError, match="signed by others"):
        with_release(first, [built], CryptoSigner.generate_ed25519(), TERMS.created)


@pytest.mark.parametrize("given", [None, "", "{{ messages }}"])
def test_a_chat_template_is_the_files_or_the_one_that_was_given(
    model: Path, given: str | None
) -> None:
    terms = dataclasses.replace(TERMS, chat_template=given)
    own = str(gguf.check(model).metadata.get("tokenizer.chat_template", ""))
    assert build_manifest(model, "f16", terms).chat_template == (own if given is None else given)


@pytest.mark.parametrize("given", ["{{ messages }}", "{{ tools }}{{ messages }}"])
def test_tools_are_those_of_the_template_that_is_signed(model: Path, given: str) -> None:
    stated = build_manifest(model, "f16", dataclasses.replace(TERMS, chat_template=given))
    assert stated.facts.has_tools == ("tools" in given)


def test_an_origin_is_said_or_stands_in_the_file_and_is_never_guessed(tmp_path: Path) -> None:
    origin = "https://example.org/talk"
    (silent,) = write_model(tmp_path / "silent.gguf")
    (model,) = write_model(tmp_path / "model.gguf", Shape(origin=origin))
    given = dataclasses.replace(TERMS, origin="our own")
    assert build_manifest(silent, "f16", TERMS).source.origin == ""
    assert build_manifest(model, "f16", TERMS).source.origin == origin
    assert build_manifest(model, "f16", given).source.origin == "our own"


def test_policy_and_evaluation_are_part_of_it(model: Path) -> None:
    policy = FitPolicy(aim=Aim.SPEED_FIRST, max_loss_ppm=50_000)
    measured = Evaluation("f16", "7" * 64, 255, 9000, 0, 1_000_000, 0)
    terms = dataclasses.replace(TERMS, policy=policy)
    stated = build_manifest(model, "f16", terms, measured)
    assert (stated.policy, stated.evaluation) == (policy, measured)
    assert build_manifest(model, "f16", TERMS).evaluation is None


def test_the_last_piece_is_what_is_left(model: Path) -> None:
    shard = build_manifest(model, "f16", TERMS).shards[0]
    assert shard.size == model.stat().st_size
    assert len(shard.pieces) == -(-shard.size // PIECE_SIZE) == 2


def test_the_same_file_and_terms_give_the_same_manifest(model: Path) -> None:
    assert build_manifest(model, "f16", TERMS) == build_manifest(model, "f16", TERMS)


def test_a_licence_given_goes_before_the_files_own(model: Path) -> None:
    assert build_manifest(model, "f16", TERMS).facts.licence == "Apache-2.0"
    given = dataclasses.replace(TERMS, licence="MIT")
    assert build_manifest(model, "f16", given).facts.licence == "MIT"


@pytest.mark.parametrize("terms", [{"model": "A Model"}, {"release": "new"}, {"counter": 0}])
def test_what_a_device_would_not_read_is_not_signed(model: Path, terms: dict[str, Any]) -> None:
    with pytest.raises(manifest.ManifestError):
        build_manifest(model, "f16", dataclasses.replace(TERMS, **terms))


def test_a_file_that_is_no_model_is_not_signed(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(gguf.ModelFileError):
        build_manifest(tmp_path / "text.gguf", "f16", TERMS)


@pytest.mark.parametrize("password", [None, b"open sesame"])
def test_a_key_file_comes_back(tmp_path: Path, password: bytes | None) -> None:
    private, public, key = generate_key_files(tmp_path / "me", password)
    assert private.stat().st_mode & 0o777 == 0o600
    assert load_key(private, password).key_id == key.key_id
    assert public.read_text() == key.public_pem
    assert (b"ENCRYPTED" in private.read_bytes()) == (password is not None)


def test_a_passphrase_for_another_key_does_not_stand_in_the_way(tmp_path: Path) -> None:
    private, _, key = generate_key_files(tmp_path / "me", None)
    assert load_key(private, b"for another one").key_id == key.key_id


def test_a_key_is_never_written_over_another(tmp_path: Path) -> None:
    for taken in ("a.pem", "b.pub"):
        (tmp_path / taken).write_text("mine")
        with pytest.raises(KeyFileError, match="exists already"):
            generate_key_files(tmp_path / taken[0], None)
        assert (tmp_path / taken).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pem", "b.pub"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    private, _, _ = generate_key_files(tmp_path / "me", None)
    private.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(private, None)


def test_a_locked_key_needs_its_own_passphrase(tmp_path: Path) -> None:
    private, _, _ = generate_key_files(tmp_path / "me", b"right")
    with pytest.raises(KeyFileError, match="SPRAT_KEY_PASSPHRASE"):
        load_key(private, None)
    with pytest.raises(KeyFileError, match=r"me\.pem"):
        load_key(private, b"wrong")


def test_adapters_are_parts_of_each_variant(model: Path, tmp_path: Path) -> None:
    sources = tuple(
        AdapterSource(name, write_adapter(tmp_path / f"{name}.gguf", model, seed))
        for seed, name in enumerate(("polite", "rude"))
    )
    stated = build_manifest(model, "f16", dataclasses.replace(TERMS, adapters=sources))
    assert [one.name for one in stated.adapters] == ["polite", "rude"]
    for one, source in zip(stated.adapters, sources, strict=True):
        data = source.path.read_bytes()
        pieces = [data[at : at + PIECE_SIZE] for at in range(0, len(data), PIECE_SIZE)]
        assert (one.size, one.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert one.pieces == [hashlib.sha256(piece).hexdigest() for piece in pieces]
    assert stated.disk_needed == sum(size for _, size in stated.blobs())


def test_an_adapter_of_another_model_is_not_signed(model: Path, tmp_path: Path) -> None:
    (other,) = write_model(tmp_path / "other.gguf")
    source = AdapterSource("broad", write_adapter(tmp_path / "adapter.gguf", other, 1))
    with pytest.raises(gguf.ModelFileError, match="adapter broad: expected"):
        build_manifest(model, "f16", dataclasses.replace(TERMS, adapters=(source,)))


def test_two_adapters_of_one_name_are_not_signed(model: Path, tmp_path: Path) -> None:
    source = AdapterSource("polite", write_adapter(tmp_path / "adapter.gguf", model, 1))
    with pytest.raises(manifest.ManifestError, match="different names of adapters"):
        build_manifest(model, "f16", dataclasses.replace(TERMS, adapters=(source, source)))
