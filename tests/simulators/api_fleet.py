"""A fleet and a release behind the API of an `HttpWorld`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sprat_controller.access.policy import Role
from sprat_controller.publisher.manifests import BuiltVariant, ReleaseTerms, build_manifest
from sprat_controller.publisher.signing import with_release
from sprat_controller.rollout import approver_policy
from sprat_controller.rollout.runner import Runner
from sprat_controller.rollout.sql_book import Around, SqlBook
from sprat_controller.schedule.leases import Leases
from sprat_controller.store import tables
from sprat_controller.store.tables import Device, Rollout
from sprat_proto import canonical
from sprat_proto.capability import CAPABILITY
from sprat_proto.manifest import Activation
from sprat_proto.v1 import link_pb2
from sqlmodel import col, update

from simulators.device_keys import enrolment_json
from simulators.founded import add_publisher
from simulators.http_world import START, HttpWorld
from simulators.models import write_model

PROFILE = {
    "arch": "x86_64",
    "cores": 4,
    "cpu_features": [],
    "memory_bytes": 8 << 30,
    "memory_budget_bytes": 4 << 30,
    "disk_free_bytes": 16 << 30,
    "accelerators": [],
    "os": "linux",
    "simulated": True,
    "runtimes": ["llama.cpp"],
}


async def enrol(
    world: HttpWorld, device_id: str, /, *, group: str = "default", **labels: str
) -> None:
    """Enrol a device and let it have told its hardware."""
    body = {"device_id": device_id, "group": group, "labels": labels}
    claim = (await world.client().post("enrolment-tokens", body)).json()["token"]
    await world.client(None).send("POST", "/enrol", json=enrolment_json(claim))
    told = update(Device).where(col(Device.id) == device_id)
    with world.parts.database.transaction() as session:
        values = {"profile": PROFILE, "hardware_class": "c", "capability": CAPABILITY}
        session.exec(told.values(simulated=True, **values))


async def publish(world: HttpWorld, folder: Path, release: str = "1.0.0") -> Any:
    """Publish a release as a publisher's machine does, and return the answer."""
    await add_publisher(world, world.client(), "me")
    path = folder / "model.gguf"
    write_model(path)
    body = await upload(world, path, release, 1)
    client = world.client(Role.PUBLISHER)
    answer = await client.post("models/talk/releases", body)
    assert (await client.post("models/talk/releases", body)).status_code == 200
    assert answer.status_code == 201, answer.text
    return answer.json()


async def upload(
    world: HttpWorld, path: Path, release: str, counter: int, newest: bytes | None = None
) -> dict[str, str]:
    """Upload a release of `me` but for the last step, and return what that is to post."""
    terms = ReleaseTerms("talk", release, counter, Activation(), "", START, "me")
    built = BuiltVariant(path, build_manifest(path, "q4_0", terms))
    metadata = with_release(newest, [built], world.publishers["me"], START)
    client = world.client(Role.PUBLISHER)
    data = await asyncio.to_thread(path.read_bytes)
    await client.put_blob(built.manifest.shards[0].sha256, data)
    for data in (built.payload, metadata):
        await client.put_blob(canonical.sha256_hex(data), data)
    return {"release": release, "publisher": "me", "metadata": canonical.sha256_hex(metadata)}


def run(world: HttpWorld) -> None:
    """Bring all rollouts as far as they go without their devices."""

    def push(_: str, message: link_pb2.ControllerMessage) -> None:
        assert message.ByteSize() > 0

    parts = world.parts
    leases = Leases(parts.database, tables.of(Rollout), "controller", parts.clock)
    leases.forget_own()
    new_id = parts.ids.new_id
    around = Around(parts.database, parts.signer, push, leases, new_id, approver_policy.nobody)
    Runner(leases, lambda lease: SqlBook(around, lease)).run_due(world.now)
