from __future__ import annotations

import json

import pytest
from simulators.controlled import World
from simulators.plain_signer import read_plan
from sprat_controller.bundle.export import Contents, Exporter
from sprat_controller.errors import ConflictError, NotFoundError, RequestError
from sprat_controller.store.tables import TrustMetadata
from sprat_proto import bundle, canonical, signing
from sprat_proto.assignment import AssignedModel, Policy
from sprat_proto.bundle import Header, OfflineStatement
from sprat_proto.trust import POLICY_PATH, Repository
from sprat_proto.v1 import link_pb2

PUBLISHED: list[tuple[Repository, str, int]] = [
    ("director", "root", 1),
    ("director", "root", 2),
    ("image", "root", 1),
    ("image", "root", 2),
    ("image", "timestamp", 8),
    ("image", "timestamp", 9),
    ("image", "snapshot", 7),
    ("image", "targets", 3),
    ("image", "pub-ann", 4),
    ("image", "pub-ann", 5),
    ("image", "pub-other", 1),
]
POLICY = {"hashes": {"sha256": "f" * 64}, "length": 17}


def publish(world: World) -> None:
    """Keep metadata that say their names."""
    with world.database.transaction() as session:
        for repository, role, version in PUBLISHED:
            data = f"{repository}/{version}.{role}".encode()
            if role == "targets":
                data = json.dumps({"signed": {"targets": {POLICY_PATH: POLICY}}}).encode()
            session.add(TrustMetadata(repository=repository, role=role, version=version, data=data))


@pytest.fixture
def exporter(world: World) -> Exporter:
    publish(world)
    return Exporter(world.database, world.signer, world.clock)


def names(contents: Contents) -> list[str]:
    return [name for name, _ in contents.small]


def test_a_device_gets_its_plan_signed_anew_and_all_that_it_names(
    world: World, exporter: Exporter
) -> None:
    world.under_way()
    world.wait(days=3)
    contents = exporter.for_devices(["a"], actor="user:ann")
    assert names(contents) == [
        bundle.HEADER,
        "director/1.root.json",
        "director/2.root.json",
        "plans/a/targets.json",
        "plans/a/snapshot.json",
        "plans/a/timestamp.json",
        "image/1.root.json",
        "image/2.root.json",
        "image/timestamp.json",
        "image/7.snapshot.json",
        "image/3.targets.json",
        "image/5.pub-ann.json",
    ]
    small = dict(contents.small)
    assert small["image/timestamp.json"] == b"image/9.timestamp"
    header = canonical.decode(small[bundle.HEADER], Header, "header")
    assert (header.devices, header.group) == (["a"], "")
    plan = link_pb2.Assignment(targets=small["plans/a/targets.json"])
    digest = read_plan(plan).models[0].digest
    version = json.loads(small["plans/a/timestamp.json"])["signed"]["version"]
    assert version == world.signer.versions["a"] == int(world.now.timestamp())
    # The policy and the manifest first, then the weights.
    assert contents.blobs[0] == ("f" * 64, 17)
    assert contents.blobs[1][0] == digest
    assert len(contents.blobs) == 3


def test_every_member_has_its_place(world: World, exporter: Exporter) -> None:
    for name in ("a", "b"):
        world.join(name)
    world.create()
    world.run_due()
    contents = exporter.for_devices(["b", "a", "b"], actor="user:ann")
    ranks = [bundle.rank(name) for name in names(contents)]
    assert None not in ranks
    assert ranks == sorted(ranks, key=lambda one: (one or (0, 0))[0])
    assert len(set(names(contents))) == len(ranks)


def test_who_has_no_plan_gets_no_bundle(world: World, exporter: Exporter) -> None:
    world.join("idle")
    for devices, kind in (([], RequestError), (["ghost"], NotFoundError)):
        with pytest.raises(kind):
            exporter.for_devices(devices, actor="user:ann")
    with pytest.raises(ConflictError, match="expected a plan of the device idle"):
        exporter.for_devices(["idle"], actor="user:ann")
    device, _, _ = world.under_way()
    world.remove(device.id)
    with pytest.raises(NotFoundError):
        exporter.for_devices([device.id], actor="user:ann")


def test_before_anything_was_published_there_is_no_bundle(world: World) -> None:
    world.under_way()
    with pytest.raises(ConflictError, match="publish first"):
        Exporter(world.database, world.signer, world.clock).for_devices(["a"], actor="user:ann")


def statement(digest: str) -> str:
    model = AssignedModel(
        alias="assistant",
        publisher="ann",
        model="talk",
        release="1.0.0",
        variant="q4_0",
        digest=digest,
        size=1,
        execution_id="offline-1-assistant",
        rollout_id="offline-1",
    )
    made = OfflineStatement(1, "lyon", 1, 1, 2, [model], Policy())
    return signing.unsigned(bundle.encode_statement(made), bundle.STATEMENT_TYPE).decode()


def test_a_group_gets_its_statement_as_it_was_signed(world: World, exporter: Exporter) -> None:
    digest = world.publish("3.0.0", counter=3)["q4_0"]
    envelope = statement(digest)
    contents = exporter.for_group(envelope, actor="user:ann")
    small = dict(contents.small)
    assert small[bundle.OFFLINE] == envelope.encode()
    assert not any(name.startswith("plans/") for name in small)
    header = canonical.decode(small[bundle.HEADER], Header, "header")
    assert (header.devices, header.group) == ([], "lyon")
    assert digest in dict(contents.blobs)
    assert world.signer.versions == {}


def test_what_is_no_statement_or_not_published_is_refused(exporter: Exporter) -> None:
    for wrong in ("", "{}", '{"payload": "e30="}', '{"payload": 1}', "[]"):
        with pytest.raises(RequestError, match="expected a signed offline statement"):
            exporter.for_group(wrong, actor="user:ann")
    with pytest.raises(ConflictError, match="no variant with the digest"):
        exporter.for_group(statement("e" * 64), actor="user:ann")
