from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from simulators.device_keys import enrolment_json
from simulators.http_world import Client, HttpWorld, error_of
from sprat_controller.access.policy import Role
from starlette.types import Message

DATA = bytes(range(256)) * 20
SHA256 = hashlib.sha256(DATA).hexdigest()
URL = f"/blobs/sha256/{SHA256}"


@pytest.fixture
async def stored(world: HttpWorld) -> Client:
    """A publisher that uploaded the blob."""
    client = world.client(Role.PUBLISHER)
    answer = await client.put_blob(SHA256, DATA)
    assert (answer.status_code, answer.json()) == (201, {"sha256": SHA256, "size": len(DATA)})
    return client


async def test_an_upload_is_there_whole_and_the_second_one_is_no_news(stored: Client) -> None:
    head = await stored.send("HEAD", f"/api/v1/blobs/sha256/{SHA256}")
    assert head.headers["content-length"] == str(len(DATA))
    assert (await stored.put_blob(SHA256, DATA)).status_code == 200
    assert (await stored.send("GET", URL)).content == DATA


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        ("bytes=0-0", DATA[:1]),
        ("bytes=100-", DATA[100:]),
        ("bytes=100-199", DATA[100:200]),
        ("bytes=-10", DATA[-10:]),
        ("bytes=0-999999", DATA),
        (f"bytes=-{len(DATA) * 2}", DATA),
    ],
)
async def test_a_download_goes_on_where_it_broke(
    stored: Client, range_: str, expected: bytes
) -> None:
    answer = await stored.send("GET", URL, headers={"range": range_})
    assert answer.status_code == 206
    assert answer.content == expected
    start = DATA.index(expected) if len(expected) < 200 else len(DATA) - len(expected)
    start = 0 if range_ == "bytes=0-0" else 100 if range_ == "bytes=100-199" else start
    start = len(DATA) - 10 if range_ == "bytes=-10" else start
    end = start + len(expected) - 1
    assert answer.headers["content-range"] == f"bytes {start}-{end}/{len(DATA)}"
    assert answer.headers["etag"] == f'"{SHA256}"'


@pytest.mark.parametrize(
    "range_",
    [
        f"bytes={len(DATA)}-",
        "bytes=9-5",
        "bytes=-0",
        "bytes=a-b",
        "bytes=0-1,5-6",
        "lines=1-2",
        "bytes",
        "bytes=-",
    ],
)
async def test_a_range_that_is_not_there_is_refused(stored: Client, range_: str) -> None:
    answer = await stored.send("GET", URL, headers={"range": range_})
    assert error_of(answer) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


async def test_a_range_counts_only_for_the_blob_it_was_begun_with(stored: Client) -> None:
    same = {"range": "bytes=5-9", "if-range": f'"{SHA256}"'}
    assert (await stored.send("GET", URL, headers=same)).status_code == 206
    other = {"range": "bytes=5-9", "if-range": '"other"'}
    assert (await stored.send("GET", URL, headers=other)).content == DATA


@pytest.mark.parametrize("sent", [b"", DATA[:-1], DATA + b"x", DATA[:-1] + b"x"])
async def test_other_bytes_than_promised_are_refused_and_leave_nothing(
    world: HttpWorld, tmp_path: Path, sent: bytes
) -> None:
    client = world.client(Role.PUBLISHER)
    answer = await client.put_blob(SHA256, sent)
    assert error_of(answer) == (422, "digest_mismatch")
    assert error_of(await client.send("GET", URL)) == (404, "blob_not_found")
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_an_upload_that_breaks_off_leaves_nothing(world: HttpWorld, tmp_path: Path) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": DATA[:100], "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    token = world.tokens[Role.PUBLISHER]
    path = f"/api/v1/blobs/sha256/{SHA256}"
    scope = {
        "type": "http",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "https",
        "server": ("ctl", 7770),
        "headers": [(b"authorization", f"Bearer {token}".encode()), (b"host", b"ctl")],
    }
    await world.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


async def test_a_large_upload_is_streamed(world: HttpWorld) -> None:
    chunk, count = b"\x07" * (1 << 20), 9  # beyond the bound of other bodies
    sha256 = hashlib.sha256(chunk * count).hexdigest()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield chunk

    client = world.client(Role.PUBLISHER)
    answer = await client.send("PUT", f"/api/v1/blobs/sha256/{sha256}", content=chunks())
    assert answer.json()["size"] == len(chunk) * count


async def test_a_device_reads_blobs_with_its_credential_until_it_is_removed(
    world: HttpWorld, stored: Client, admin: Client
) -> None:
    del stored
    claim = (await admin.post("enrolment-tokens", {"device_id": "gw-1"})).json()["token"]
    stranger = world.client(None)
    await stranger.send("POST", "/enrol", json=enrolment_json(claim))
    credential, _ = world.parts.blob_credentials.mint("gw-1", world.now)
    headers = {"authorization": f"Bearer {credential}"}
    assert (await stranger.send("GET", URL, headers=headers)).content == DATA
    whoami = await stranger.get("whoami", headers=headers)
    assert error_of(whoami) == (401, "not_authenticated")
    await admin.send("DELETE", "/api/v1/devices/gw-1")
    assert world.ended == ["gw-1"]
    assert world.woken == 1
    refused = await stranger.send("GET", URL, headers=headers)
    assert error_of(refused) == (403, "device_removed")


async def test_a_credential_of_a_device_that_never_was_is_refused(
    world: HttpWorld, stored: Client
) -> None:
    del stored
    credential, _ = world.parts.blob_credentials.mint("ghost", world.now)
    headers = {"authorization": f"Bearer {credential}"}
    refused = await world.client(None).send("GET", URL, headers=headers)
    assert error_of(refused) == (403, "device_removed")
