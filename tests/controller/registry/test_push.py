from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from simulators import demo_model
from sprat_controller.registry.push import make_variants, upload
from sprat_controller.registry.signing import ReleaseTerms, SignedVariant
from sprat_proto.manifest import Activation
from sprat_proto.signing import SigningKey, generate_private_pem

KEY = SigningKey(generate_private_pem())
TERMS = ReleaseTerms(
    "talk", "1.0.0", 1, Activation(), "", datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
)


@dataclass
class Shelf:
    """A destination in memory that remembers in which order things came."""

    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    order: list[str] = field(default_factory=list[str])
    breaks_at: str = ""

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

    def publish(self, model: str, release: str, envelopes: Sequence[str]) -> None:
        assert all(sha256 in self.blobs for sha256 in envelopes)
        self.order.append(f"{model}@{release} {len(envelopes)}")


def silent(*_: object) -> None:
    """Report to nobody."""


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> list[SignedVariant]:
    folder = tmp_path_factory.mktemp("push")
    source = demo_model.make(folder / "source.gguf")
    return make_variants(source, ["q8_0", "q4_0"], TERMS, KEY, folder=folder, report=silent)


def weights(variant: SignedVariant) -> str:
    return variant.manifest.shards[0].sha256


def test_each_variant_says_what_it_is(variants: list[SignedVariant]) -> None:
    assert [one.manifest.name for one in variants] == ["talk@1.0.0+q8_0", "talk@1.0.0+q4_0"]
    assert [one.manifest.facts.quantization for one in variants] == ["q8_0", "q4_0"]
    assert variants[0].bits_per_weight > variants[1].bits_per_weight
    assert len({one.manifest.release_counter for one in variants}) == 1


def test_the_release_is_announced_last(variants: list[SignedVariant]) -> None:
    shelf = Shelf()
    upload(variants, shelf, silent)
    assert shelf.order == [
        *(weights(one) for one in variants),
        *(one.envelope_ref.sha256 for one in variants),
        "talk@1.0.0 2",
    ]


def test_a_push_that_broke_off_continues_where_it_was(variants: list[SignedVariant]) -> None:
    shelf = Shelf(breaks_at=weights(variants[1]))
    with pytest.raises(ConnectionError):
        upload(variants, shelf, silent)
    assert shelf.order == [weights(variants[0])]
    shelf.breaks_at = ""
    upload(variants, shelf, silent)
    assert shelf.order.count(weights(variants[0])) == 1
    assert shelf.order[-1] == "talk@1.0.0 2"


def test_progress_ends_at_all_of_it(variants: list[SignedVariant]) -> None:
    last: dict[str, tuple[int, int]] = {}

    def report(what: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        last[what] = (done, total)

    upload(variants, Shelf(), report)
    assert set(last) == {"uploading q8_0", "uploading q4_0"}
    assert all(done == total for done, total in last.values())
