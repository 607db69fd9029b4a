"""Downloads over real HTTPS from sources that cannot be trusted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from simulators.blob_source import BlobSource, serving
from simulators.pki import Pki
from simulators.shop import Shop
from simulators.signed import PIECE, Release, pieces_of, release
from simulators.trusting import HARDWARE, judge
from sprat_agent.registry.fetch import Fetcher, Sources
from sprat_agent.registry.local import LocalRegistry
from sprat_agent.sync.ports import ExecutionError, RetryLaterError
from sprat_proto.manifest import MAX_MANIFEST_BYTES
from sprat_proto.states import ReasonCode

DATA = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(2000))


def published(shop: Shop, data: bytes = DATA) -> Release:
    counter = len(shop.wanted) + 1
    return shop.publish(release(f"{counter}.0.0", [data], counter=counter))


def weights_of(one: Release) -> str:
    return one.manifest.shards[0].sha256


def manifest_of(one: Release) -> str:
    return one.digest


async def refusal(shop: Shop, one: Release) -> ExecutionError:
    with pytest.raises(ExecutionError) as caught:
        await shop.registry.download(one.wanted("e1"))
    await shop.registry.collect_garbage(frozenset())
    assert shop.files() == set()
    return caught.value


async def test_what_was_fetched_is_whole_read_only_and_in_its_place(shop: Shop) -> None:
    one = published(shop)
    await shop.registry.download(one.wanted("e1"))
    path = shop.store.blob(weights_of(one))
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o444
    assert not list((shop.folder / "partial").iterdir())
    count = len(shop.source.ranges)
    await shop.registry.download(one.wanted("e1"))
    assert len(shop.source.ranges) == count  # nothing is fetched twice


async def test_bytes_are_counted_as_they_come(shop: Shop) -> None:
    one = published(shop)
    fetcher = Fetcher(shop.access, shop.ca)
    shop.registry = LocalRegistry(
        shop.store, fetcher, judge(shop.trust), shop.trust.image_anchor, HARDWARE
    )
    size = one.wanted("e").size
    shop.source.cut_after = [size, 3 * PIECE]
    with pytest.raises(RetryLaterError):
        await shop.registry.download(one.wanted("e1"))
    assert fetcher.received == size + 3 * PIECE
    await shop.registry.download(one.wanted("e1"))
    assert fetcher.received == size + len(DATA)


async def test_a_broken_download_goes_on_at_the_last_good_piece(shop: Shop) -> None:
    one = published(shop)
    shop.source.cut_after = [one.wanted("e").size, 3 * PIECE + 100]
    with pytest.raises(RetryLaterError):
        await shop.registry.download(one.wanted("e1"))
    await shop.registry.download(one.wanted("e1"))
    assert shop.source.ranges[-1] == f"bytes={3 * PIECE}-{len(DATA) - 1}"
    assert shop.store.blob(weights_of(one)).read_bytes() == DATA


async def test_pieces_that_were_damaged_on_disk_are_fetched_again(shop: Shop) -> None:
    one = published(shop)
    shop.source.cut_after = [one.wanted("e").size, 5 * PIECE]
    with pytest.raises(RetryLaterError):
        await shop.registry.download(one.wanted("e1"))
    partial = shop.store.partial(weights_of(one))
    damaged = bytearray(partial.read_bytes())
    damaged[2 * PIECE + 7] ^= 1
    partial.write_bytes(damaged)
    await shop.registry.download(one.wanted("e1"))
    assert shop.source.ranges[-1].startswith(f"bytes={2 * PIECE}-")


async def test_a_source_without_ranges_is_read_from_the_start(shop: Shop) -> None:
    one = published(shop)
    shop.source.cut_after = [one.wanted("e").size, 3 * PIECE]
    with pytest.raises(RetryLaterError):
        await shop.registry.download(one.wanted("e1"))
    shop.source.has_ranges = False
    await shop.registry.download(one.wanted("e1"))
    assert shop.store.blob(weights_of(one)).read_bytes() == DATA


@pytest.mark.parametrize("which", [weights_of, manifest_of])
async def test_t1_a_flipped_bit_is_refused_with_what_was_expected_and_found(
    shop: Shop, which: object
) -> None:
    one = published(shop)
    sha256 = weights_of(one) if which is weights_of else manifest_of(one)
    changed = bytearray(shop.source.blobs[sha256])
    changed[len(changed) // 2] ^= 1
    shop.source.blobs[sha256] = bytes(changed)
    error = await refusal(shop, one)
    assert error.code is ReasonCode.DIGEST_MISMATCH
    assert sha256[:12] in error.message
    pieces = pieces_of(one.blobs[sha256]) if which is weights_of else [sha256]
    assert error.expected in pieces
    assert len(error.found) == 64
    assert error.found != error.expected


async def test_a_bad_piece_is_refused_at_once(shop: Shop) -> None:
    one = published(shop)
    shop.source.blobs[weights_of(one)] = b"?" * len(DATA)
    with pytest.raises(ExecutionError):
        await shop.registry.download(one.wanted("e1"))
    assert shop.store.partial(weights_of(one)).stat().st_size == 0


@pytest.mark.parametrize("is_chunked", [False, True], ids=["says its length", "just ends"])
@pytest.mark.parametrize("which", ["weights", "manifest"])
@pytest.mark.parametrize("change", ["truncated", "longer"])
async def test_t2_another_size_is_refused(
    shop: Shop, which: str, change: str, *, is_chunked: bool
) -> None:
    one = published(shop)
    sha256 = weights_of(one) if which == "weights" else manifest_of(one)
    data = shop.source.blobs[sha256]
    shop.source.blobs[sha256] = data[: len(data) // 2] if change == "truncated" else data + b"more"
    shop.source.is_chunked = is_chunked
    if is_chunked and change == "longer":
        # Only so much is ever asked for: what more there may be does not matter.
        await shop.registry.download(one.wanted("e1"))
        return
    error = await refusal(shop, one)
    assert error.code is ReasonCode.SIZE_MISMATCH
    assert error.expected == f"{len(data)} bytes"
    assert error.found != error.expected
    assert sha256[:12] in error.message


async def test_t2_a_source_that_sends_more_than_was_asked_for_is_refused(shop: Shop) -> None:
    one = published(shop)
    shop.source.has_ranges, shop.source.is_chunked = False, True
    shop.source.blobs[weights_of(one)] = DATA + b"more"
    error = await refusal(shop, one)
    assert error.code is ReasonCode.SIZE_MISMATCH


async def test_a_blob_that_is_nowhere_is_named(shop: Shop) -> None:
    one = published(shop)
    del shop.source.blobs[weights_of(one)]
    error = await refusal(shop, one)
    assert error.code is ReasonCode.BLOB_NOT_FOUND
    assert weights_of(one) in error.expected


async def test_a_refused_credential_asks_for_another_and_waits(shop: Shop) -> None:
    one = published(shop)
    asked: list[bool] = []
    shop.access.on_refused = lambda: asked.append(True)
    shop.source.bearer = "renewed"
    with pytest.raises(RetryLaterError, match="401"):
        await shop.registry.download(one.wanted("e1"))
    assert asked
    shop.access.grant(Sources((shop.source.url,), "renewed"))
    await shop.registry.download(one.wanted("e1"))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_source_is_asked_again_later(shop: Shop, status: int) -> None:
    one = published(shop)
    shop.source.status[weights_of(one)] = status
    with pytest.raises(RetryLaterError, match=str(status)):
        await shop.registry.download(one.wanted("e1"))


@pytest.mark.parametrize("status", [302, 400])
async def test_any_other_answer_is_a_failure(shop: Shop, status: int) -> None:
    one = published(shop)
    shop.source.status[weights_of(one)] = status
    error = await refusal(shop, one)
    assert error.code is ReasonCode.DOWNLOAD_FAILED


async def test_without_a_controller_it_waits(shop: Shop) -> None:
    one = published(shop)
    shop.access.sources = None
    with pytest.raises(RetryLaterError):
        await shop.registry.download(one.wanted("e1"))
    shop.access.grant(Sources(("https://127.0.0.1:1/blobs",), "good"))
    with pytest.raises(RetryLaterError):
        await shop.registry.download(one.wanted("e1"))


async def test_a_source_with_a_strangers_certificate_is_not_spoken_to(
    shop: Shop, tmp_path: Path
) -> None:
    one = published(shop)
    other = BlobSource(dict(one.blobs))
    pair = Pki("other").server()
    (tmp_path / "c.pem").write_bytes(pair.certificate_pem)
    (tmp_path / "k.pem").write_bytes(pair.key_pem)
    with serving(other, tmp_path / "c.pem", tmp_path / "k.pem"):
        shop.access.grant(Sources((other.url,), other.bearer))
        with pytest.raises(RetryLaterError, match=r"(?i)certificate"):
            await shop.registry.download(one.wanted("e1"))
    assert other.ranges == []


async def test_a_good_source_makes_up_for_bad_ones(shop: Shop, authority: Path) -> None:
    one = published(shop)
    bad = BlobSource(dict(one.blobs))
    bad.blobs[weights_of(one)] = DATA[: 2 * PIECE] + b"?" * (len(DATA) - 2 * PIECE)
    with serving(bad, authority / "server.pem", authority / "server.key"):
        shop.access.grant(Sources((bad.url, shop.source.url), "good"))
        await shop.registry.download(one.wanted("e1"))
    assert shop.source.ranges[-1].startswith(f"bytes={2 * PIECE}-")  # the good pieces were kept
    assert shop.store.blob(weights_of(one)).read_bytes() == DATA


async def test_too_little_disk_is_said_before_a_byte_of_it_is_fetched(shop: Shop) -> None:
    one = published(shop)
    fetcher = Fetcher(shop.access, shop.ca)
    shop.registry = LocalRegistry(
        shop.store,
        fetcher,
        judge(shop.trust),
        shop.trust.image_anchor,
        HARDWARE,
        free=lambda _: 1 << 20,
    )
    error = await refusal(shop, one)
    assert error.code is ReasonCode.INSUFFICIENT_DISK
    assert error.found == f"{1 << 20} bytes"
    assert len(shop.source.ranges) == 1


async def test_a_manifest_larger_than_any_is_not_fetched(shop: Shop) -> None:
    one = published(shop)
    huge = MAX_MANIFEST_BYTES + 1
    with pytest.raises(ExecutionError) as caught:
        await shop.registry.download(msgspec.structs.replace(one.wanted("e1"), size=huge))
    assert caught.value.code is ReasonCode.MANIFEST_INVALID
    assert shop.source.ranges == []


async def test_nothing_is_fetched_that_is_not_released(shop: Shop) -> None:
    one = release(data=[DATA])
    shop.source.blobs |= one.blobs
    shop.assign([one.wanted("e1")])
    error = await refusal(shop, one)
    assert error.code is ReasonCode.NOT_RELEASED
    assert error.expected == one.path
    assert shop.source.ranges == []


async def test_t3_another_models_bytes_under_this_name_are_refused(shop: Shop) -> None:
    one, other = published(shop), published(shop, DATA[::-1])
    shop.source.blobs[weights_of(one)] = other.blobs[weights_of(other)]
    error = await refusal(shop, one)
    assert error.code is ReasonCode.DIGEST_MISMATCH


async def test_pieces_that_do_not_make_the_whole_are_refused(shop: Shop) -> None:
    other = DATA[::-1]
    one = shop.publish(release(data=[DATA], pieces=pieces_of(other)))
    shop.source.blobs[weights_of(one)] = other
    error = await refusal(shop, one)
    assert error.code is ReasonCode.DIGEST_MISMATCH
    assert "as a whole" in error.message
