"""The metadata of the repositories over HTTP: for devices, and for the people who sign it."""

from __future__ import annotations

import pytest

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner
from simulators.founded import add_publisher, found, next_targets
from simulators.http_world import Client, HttpWorld, error_of
from sprat_controller.access.policy import Role
from sprat_controller.trust.dry_run import dry_run
from sprat_proto import canonical


async def image(client: Client, name: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    answer = await client.send("GET", f"/image/{name}", headers=headers)
    return answer.status_code, answer.content, dict(answer.headers)


async def test_what_is_served_is_what_a_client_takes(world: HttpWorld, admin: Client) -> None:
    await add_publisher(world, admin, "me")
    names = [item["name"] for item in (await admin.get("trust/image")).json()["items"]]
    assert "timestamp.json" in names
    files = {name: (await image(admin, name))[1] for name in names}
    dry_run(files, files["1.root.json"], now=world.now)
    for name in names:
        assert (await admin.get(f"trust/image/{name}")).content == files[name]


async def test_a_version_is_kept_for_ever_and_a_timestamp_is_asked_for(
    world: HttpWorld, admin: Client
) -> None:
    found(world)
    kept = (await image(admin, "1.root.json"))[2]["cache-control"]
    assert kept == "public, max-age=31536000, immutable"
    assert (await image(admin, "timestamp.json"))[2]["cache-control"] == "no-cache"


async def test_metadata_is_compressed_for_who_takes_it(world: HttpWorld, admin: Client) -> None:
    found(world)
    plain = await image(admin, "1.root.json", **{"accept-encoding": "identity"})
    packed = await image(admin, "1.root.json", **{"accept-encoding": "gzip"})
    assert "content-encoding" not in plain[2]
    assert packed[2]["content-encoding"] == "gzip"
    assert int(packed[2]["content-length"]) < int(plain[2]["content-length"])
    assert packed[1] == plain[1]


async def test_a_device_reads_with_what_it_reads_blobs_with(world: HttpWorld) -> None:
    found(world)
    credential, _ = world.parts.blob_credentials.mint("nobody", world.now)
    headers = {"authorization": f"Bearer {credential}"}
    answer = await world.client(None).send("GET", "/image/timestamp.json", headers=headers)
    assert error_of(answer) == (403, "device_removed")
    anonymous = await world.client(None).send("GET", "/image/timestamp.json")
    assert error_of(anonymous) == (401, "not_authenticated")


@pytest.mark.parametrize("name", ["2.root.json", "1.snapshot", "1.pub-nobody.json"])
async def test_what_is_not_published_is_not_found(
    world: HttpWorld, admin: Client, name: str
) -> None:
    found(world)
    answer = await admin.send("GET", f"/image/{name}")
    assert error_of(answer) == (404, "metadata_not_found")
    assert error_of(await admin.get("trust/moon")) == (422, "invalid_request")


async def test_publishers_come_out_of_the_targets(world: HttpWorld, admin: Client) -> None:
    key = await add_publisher(world, admin, "me")
    listed = (await world.client(Role.PUBLISHER).get("publishers")).json()["items"]
    assert [(one["name"], one["key_ids"]) for one in listed] == [("me", [key.public_key.keyid])]


async def test_a_refusal_names_its_check_and_is_written_down(
    world: HttpWorld, admin: Client
) -> None:
    keys = found(world)
    data = next_targets(world, keys, "me", CryptoSigner.generate_ed25519())
    sha256 = canonical.sha256_hex(data)
    await admin.put_blob(sha256, data)
    answer = await admin.post("trust/image", {"files": {"3.targets.json": sha256}})
    assert error_of(answer) == (422, "metadata_refused")
    assert answer.json()["error"]["details"] == {"check": "content"}
    last = (await admin.get("audit?tag=operator:trust:refused")).json()["items"][-1]["body"]
    assert (last["outcome"], last["detail"]["check"]) == ("denied", "content")
    missing = await admin.post("trust/image", {"files": {"2.targets.json": "0" * 64}})
    assert error_of(missing)[0] == 404
