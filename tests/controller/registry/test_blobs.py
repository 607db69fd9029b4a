from __future__ import annotations

import hashlib
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sprat_controller.errors import NotFoundError, RefusedError
from sprat_controller.registry.blobs import BlobStore, NoSpaceError, Upload


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(chunks=st.lists(st.binary(max_size=200), max_size=5))
def test_what_was_written_is_what_is_found(tmp_path: Path, chunks: list[bytes]) -> None:
    store = BlobStore(tmp_path)
    data = b"".join(chunks)
    upload = store.begin(sha(data), None)
    for chunk in chunks:
        upload.write(chunk)
    assert upload.finish() == len(data)
    found = store.find(sha(data))
    assert found == tmp_path / "sha256" / sha(data)[:2] / sha(data)
    assert found.read_bytes() == data


@pytest.mark.parametrize("sent", [b"", b"abc", b"abcdX", b"abcdef"])
def test_other_bytes_than_promised_leave_nothing(tmp_path: Path, sent: bytes) -> None:
    upload = BlobStore(tmp_path).begin(sha(b"abcde"), 5)
    upload.write(sent)
    with pytest.raises(RefusedError) as refusal:
        upload.finish()
    assert refusal.value.details["found"] == sha(sent)
    assert sha(sent) in refusal.value.message
    assert files(tmp_path) == []


def test_an_upload_that_was_given_up_leaves_nothing(tmp_path: Path) -> None:
    upload = BlobStore(tmp_path).begin(sha(b"a"), 1)
    upload.write(b"a")
    upload.abort()
    upload.abort()
    assert files(tmp_path) == []


def test_giving_up_after_the_end_keeps_the_blob(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    upload = store.begin(sha(b"a"), 1)
    upload.write(b"a")
    upload.finish()
    upload.abort()
    assert store.find(sha(b"a")).read_bytes() == b"a"


def test_a_damaged_blob_is_healed_by_another_upload(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    for _ in range(2):
        upload = store.begin(sha(b"a"), 1)
        upload.write(b"a")
        upload.finish()
        assert store.find(sha(b"a")).read_bytes() == b"a"
        store.path(sha(b"a")).chmod(0o600)
        store.path(sha(b"a")).write_bytes(b"X")


def test_what_a_crash_left_is_cleared(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "tmp123").write_bytes(b"half")
    store.clear_incoming()
    assert files(tmp_path) == []


def test_more_than_the_disk_holds_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError, match="make room"):
        BlobStore(tmp_path).begin(sha(b"a"), 1 << 60)
    assert files(tmp_path) == []


@pytest.mark.parametrize("size", [1 << 10, 1 << 20])
def test_a_disk_that_takes_no_more_is_told_in_one_sentence(tmp_path: Path, size: int) -> None:
    data = b"a" * size
    upload = BlobStore(tmp_path).begin(sha(data), None)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(NoSpaceError, match="cannot write: File too large"):
            take_all(upload, data)
        upload.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert files(tmp_path) == []


def take_all(upload: Upload, data: bytes) -> None:
    upload.write(data)
    upload.finish()


def test_what_is_not_here_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        BlobStore(tmp_path).find("0" * 64)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_name_that_is_no_digest_reaches_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        BlobStore(tmp_path).path(name)
