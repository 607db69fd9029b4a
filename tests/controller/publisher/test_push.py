from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner
from simulators import demo_model
from simulators.models import write_adapter
from sprat_controller.publisher.manifests import AdapterSource, BuiltVariant, ReleaseTerms
from sprat_controller.publisher.originals import prepare
from sprat_controller.publisher.push import build, make_variants, upload
from sprat_controller.trust.words import MetadataError, is_signed_by, read
from sprat_proto.manifest import Activation
from sprat_proto.trust import path_of
from tuf.api.metadata import Targets

KEY = CryptoSigner.generate_ed25519()
TERMS = ReleaseTerms(
    "talk", "1.0.0", 1, Activation(), "", datetime(2026, 11, 23, 10, 0, tzinfo=UTC), "me"
)


@dataclass
class Shelf:
    """A destination in memory that remembers in which order things came."""

    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    order: list[str] = field(default_factory=list[str])
    breaks_at: str = ""
    newest: bytes | None = None

    def has_blob(self, sha256: str) -> bool:
        return sha256 in self.blobs

    def put_file(self, sha256: str, path: Path, sent: Callable[[int], None]) -> None:
        if sha256 == self.breaks_at:
            raise ConnectionError
        self.put_bytes(sha256, path.read_bytes())
        sent(path.stat().st_size)

    def put_bytes(self, sha256: str, data: bytes) -> None:
        assert hashlib.sha256(data).hexdigest() == sha256
        self.blobs[sha256] = data
        self.order.append(sha256)

    def role_metadata(self, publisher: str) -> bytes | None:
        assert publisher == "me"
        return self.newest

    def publish(self, release: ReleaseTerms, metadata: str) -> None:
        self.newest = self.blobs[metadata]
        self.order.append(f"{release.model}@{release.release} of {release.publisher}")

    def signed(self) -> Targets:
        assert self.newest is not None
        metadata = read(self.newest, Targets, "pub-me")
        assert is_signed_by(metadata, KEY.public_key)
        return metadata.signed


def silent(*_: object) -> None:
    """Report to nobody."""


def built(source: Path, terms: ReleaseTerms) -> list[BuiltVariant]:
    original = prepare(source, source.parent, None, silent)
    files = make_variants(original, ["q8_0", "q4_0"], source.parent, "talk", silent)
    return build(files, terms, {})


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> list[BuiltVariant]:
    folder = tmp_path_factory.mktemp("push")
    return built(demo_model.make(folder / "source.gguf"), TERMS)


def weights(variant: BuiltVariant) -> str:
    return variant.manifest.shards[0].sha256


def test_each_variant_says_what_it_is(variants: list[BuiltVariant]) -> None:
    assert [one.manifest.name for one in variants] == ["talk@1.0.0+q8_0", "talk@1.0.0+q4_0"]
    assert [one.manifest.facts.quantization for one in variants] == ["q8_0", "q4_0"]
    assert variants[0].bits_per_weight > variants[1].bits_per_weight
    assert len({one.manifest.release_counter for one in variants}) == 1


def test_the_release_is_announced_last(variants: list[BuiltVariant]) -> None:
    shelf = Shelf()
    upload(variants, TERMS, KEY, shelf, silent)
    parts = [sha256 for one in variants for sha256 in (weights(one), one.digest)]
    assert shelf.order[:-2] == parts
    assert shelf.order[-1] == "talk@1.0.0 of me"
    targets = shelf.signed().targets
    assert {path: one.hashes["sha256"] for path, one in targets.items()} == {
        path_of(one.manifest): one.digest for one in variants
    }
    assert [one.custom for one in targets.values()] == [
        {"name": "me/talk", "release_counter": 1, "hardware_ids": ["cpu-aarch64", "cpu-x86_64"]}
    ] * 2


def test_a_release_goes_on_from_the_newest_metadata(variants: list[BuiltVariant]) -> None:
    shelf = Shelf()
    upload(variants[:1], TERMS, KEY, shelf, silent)
    upload(variants[1:], TERMS, KEY, shelf, silent)
    assert shelf.signed().version == 2
    assert len(shelf.signed().targets) == 2


def test_nothing_is_added_to_what_another_signed(variants: list[BuiltVariant]) -> None:
    shelf = Shelf()
    upload(variants[:1], TERMS, CryptoSigner.generate_ed25519(), shelf, silent)
    with pytest.raises(MetadataError, match="signed by others"):
        upload(variants[1:], TERMS, KEY, shelf, silent)


def test_a_push_that_broke_off_continues_where_it_was(variants: list[BuiltVariant]) -> None:
    shelf = Shelf(breaks_at=weights(variants[1]))
    with pytest.raises(ConnectionError):
        upload(variants, TERMS, KEY, shelf, silent)
    assert shelf.order == [weights(variants[0]), variants[0].digest]
    shelf.breaks_at = ""
    upload(variants, TERMS, KEY, shelf, silent)
    assert shelf.order.count(weights(variants[0])) == 1
    assert shelf.order[-1] == "talk@1.0.0 of me"


def test_progress_ends_at_all_of_it(variants: list[BuiltVariant]) -> None:
    last: dict[str, tuple[int, int]] = {}

    def report(what: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        last[what] = (done, total)

    upload(variants, TERMS, KEY, Shelf(), report)
    assert set(last) == {"uploading q8_0", "uploading q4_0"}
    assert all(done == total for done, total in last.values())


def test_adapters_are_sent_once_for_all_variants(tmp_path: Path) -> None:
    model = demo_model.make(tmp_path / "source.gguf")
    source = AdapterSource("polite", write_adapter(tmp_path / "polite.gguf", model, 1))
    terms = dataclasses.replace(TERMS, adapters=(source,))
    made = built(model, terms)
    shelf = Shelf()
    upload(made, terms, KEY, shelf, silent)
    (adapter,) = made[0].manifest.adapters
    assert made[1].manifest.adapters == [adapter]
    assert shelf.blobs[adapter.sha256] == source.path.read_bytes()
    assert shelf.order.count(adapter.sha256) == 1
