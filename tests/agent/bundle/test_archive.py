"""A tar that anybody may have made: refused with one sentence, or read as it is."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sprat_agent.bundle.archive import Archive
from sprat_agent.bundle.refusal import BundleError
from sprat_proto import bundle, canonical

HEADER = canonical.encode(bundle.Header(schema=1, made="now", devices=["gw-1"]))
BLOB = "blobs/" + "a" * 64
GOOD: list[tuple[str, bytes]] = [
    (bundle.HEADER, HEADER),
    ("director/1.root.json", b"root"),
    ("plans/gw-1/targets.json", b"targets"),
    ("plans/gw-1/snapshot.json", b""),
    ("image/timestamp.json", b"t"),
    ("image/3.pub-acme.json", b"p" * 600),
    (BLOB, b"model" * 500),
]


def packed(members: list[tuple[str, bytes]], **fields: Any) -> bytes:
    """Return a tar; `fields` are set on its last member's header."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for number, (name, data) in enumerate(members, 1):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items() if number == len(members) else ():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def opened(folder: Path, data: bytes) -> Archive:
    path = folder / "one.sprat"
    path.write_bytes(data)
    return Archive(path)


def refused(folder: Path, data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        opened(folder, data)
    message = str(caught.value)
    assert message.startswith(f"the bundle {folder / 'one.sprat'} ")
    assert "\n" not in message
    return message


def test_members_are_read_as_they_were_packed(tmp_path: Path) -> None:
    with opened(tmp_path, packed(GOOD)) as archive:
        assert archive.header.devices == ["gw-1"]
        assert list(archive.members) == [name for name, _ in GOOD]
        for name, data in GOOD:
            assert archive.read(name) == data
        assert b"".join(archive.stream(BLOB, 2)) == (b"model" * 500)[2:]
        with pytest.raises(FileNotFoundError):
            archive.read("image/4.root.json")


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "blobs/../../evil",
        "blobs/" + "A" * 64,
        "blobs/" + "a" * 63,
        f"./{BLOB}",
        "plans/../targets.json",
        "plans/gw-1/evil.json",
        "image/0.root.json",
        "image/timestamp.json/x",
        "image\\timestamp.json",
        "x",
    ],
)
def test_a_name_that_has_no_business_here_is_refused(tmp_path: Path, name: str) -> None:
    assert "where it has no business" in refused(tmp_path, packed([*GOOD, (name, b"x")]))


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.DIRTYPE,
        tarfile.CHRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.AREGTYPE,
    ],
)
def test_whatever_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    data = packed([*GOOD, ("blobs/" + "b" * 64, b"")], type=kind, linkname="/etc/passwd")
    assert "which is no plain file" in refused(tmp_path, data)


def test_extended_headers_and_long_names_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(bundle.HEADER)
        info.pax_headers = {"path": "../evil"}
        tar.addfile(info)
    assert "which is no plain file" in refused(tmp_path, out.getvalue())
    assert "which is no plain file" in refused(tmp_path, packed([("x" * 200, b"")]))


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    assert "no business" in refused(tmp_path, packed([*GOOD, GOOD[-1]]))


def test_another_order_is_refused(tmp_path: Path) -> None:
    assert "no business" in refused(tmp_path, packed(list(reversed(GOOD))))


def test_sizes_above_a_limit_or_beyond_the_file_are_refused(tmp_path: Path) -> None:
    large = [*GOOD[:1], ("director/1.root.json", bytes(600_000))]
    assert "director/1.root.json has 600000 bytes" in refused(tmp_path, packed(large))
    lying = bytearray(packed(GOOD[:1]))
    info = tarfile.TarInfo(bundle.HEADER)
    for size in (len(HEADER) + 100_000, 1 << 40):
        info.size = size
        lying[:512] = info.tobuf(tarfile.GNU_FORMAT)
        assert f"has {size} bytes" in refused(tmp_path, bytes(lying))


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    lying = bytearray(packed(GOOD[:1]))
    info = tarfile.TarInfo(bundle.HEADER)
    info.size = 1 << 40
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 12  # -1 in GNU's numbers
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    lying[:512] = block
    assert "no plain file" in refused(tmp_path, bytes(lying))


def test_what_follows_the_end_is_refused(tmp_path: Path) -> None:
    good = packed(GOOD)
    for more in (b"x", bytes(20_000), packed(GOOD)):
        assert "does not end where a bundle ends" in refused(tmp_path, good + more)


def test_a_bundle_without_its_header_or_of_a_later_kind_is_refused(tmp_path: Path) -> None:
    assert "has no sprat-bundle.json" in refused(tmp_path, packed(GOOD[1:]))
    for header in (b"{}", HEADER.replace(b'"schema":1', b'"schema":2'), HEADER + b" "):
        data = packed([(bundle.HEADER, header), *GOOD[1:]])
        assert "is not a bundle that this agent knows" in refused(tmp_path, data)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "nothing", "cannot be read: No such file"),
        (tmp_path / "pipe", "is no file"),
        (tmp_path, "is no file"),
    ):
        with pytest.raises(BundleError, match=message):
            Archive(path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, packed(GOOD)) as archive:
        os.truncate(tmp_path / "one.sprat", archive.members[BLOB].offset + 3)
        with pytest.raises(BundleError, match="ends in the middle of blobs/"):
            archive.read(BLOB)


FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
WHOLE = packed(GOOD)


@FOLDER
@given(st.integers(0, len(WHOLE) - 1))
def test_a_bundle_that_was_cut_off_anywhere_is_refused_or_whole(tmp_path: Path, at: int) -> None:
    try:
        with opened(tmp_path, WHOLE[:at]) as archive:
            found = [(name, archive.read(name)) for name in archive.members]
    except BundleError:
        return
    assert found == GOOD  # only padding was cut off


@FOLDER
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_bundle_with_any_byte_changed_is_refused_or_has_the_same_members(
    tmp_path: Path, at: int, flip: int
) -> None:
    data = bytearray(WHOLE)
    data[at] ^= flip
    try:
        with opened(tmp_path, bytes(data)) as archive:
            found = {name: len(archive.read(name)) for name in archive.members}
    except BundleError:
        return
    assert found == {name: len(content) for name, content in GOOD}


@FOLDER
@given(st.binary(max_size=3000))
def test_bytes_that_are_no_bundle_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BundleError):
        opened(tmp_path, data)
