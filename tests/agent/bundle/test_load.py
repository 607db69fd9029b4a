"""A bundle taken in by the code that the network uses, on a real disk."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.site import Site
from simulators.tuf_world import NOW
from sprat_agent.bundle.load import Loaded
from sprat_agent.bundle.refusal import BundleError
from sprat_agent.errors import StartupError
from sprat_agent.state import State
from sprat_proto import bundle
from sprat_proto.approval import Approver, ApproverPolicy, GroupPolicy
from sprat_proto.signing import SigningKey, generate_private_pem

CUTS = random.Random(7).sample(range(1000), 40)  # noqa: S311 - the same cuts each time, in 1/1000


async def test_a_device_without_a_network_gets_its_plan_and_its_models(site: Site) -> None:
    loaded = await site.load(site.stick(site.plan(5)))
    assert loaded == Loaded(5, (site.one.wanted("e5"),))
    assert site.version() == 5
    assert site.installed() == {site.one.digest}


async def test_the_same_bundle_again_changes_nothing(site: Site) -> None:
    path = site.stick(site.plan(5))
    assert await site.load(path) == await site.load(path)
    assert site.installed() == {site.one.digest}


async def test_an_older_bundle_never_takes_a_device_back(site: Site) -> None:
    old = site.stick(site.plan(5), "old.sprat")
    await site.load(site.stick(site.plan(6, site.two), "new.sprat"))
    assert "METADATA_REFUSED" in await site.refused(old)
    assert site.version() == 6


async def test_a_bundle_after_its_plan_has_expired_is_refused(site: Site) -> None:
    path = site.stick(site.plan(5))
    site.clock.now = NOW + timedelta(days=8)
    assert "expired" in (await site.refused(path)).lower()
    assert site.installed() == frozenset()


async def test_a_bundle_for_another_device_is_refused_by_name(site: Site) -> None:
    path = site.stick(site.plan(5), device="gw-2")
    assert "the bundle is for gw-2, and this device is gw-1" in await site.refused(path)


async def test_another_devices_plan_under_this_devices_name_is_refused(site: Site) -> None:
    other = site.world.plan("gw-2", 5, [site.one.wanted("e5")])
    assert "OTHER_DEVICE" in await site.refused(site.stick(other))
    await site.load(site.stick(site.plan(6)))  # and its own is still obeyed


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
async def test_a_changed_plan_is_refused(site: Site, role: str) -> None:
    plan = site.plan(5)
    name = bundle.plan_name("gw-1", role)
    changed = getattr(plan, role).replace(b'"version":1', b'"version":2')
    assert "METADATA_REFUSED" in await site.refused(site.stick(plan, changes={name: changed}))


async def test_a_bundle_of_another_fleet_is_refused(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other", b"")
    path = other.stick(other.world.plan("gw-1", 5, [other.one.wanted("e5")]))
    assert "METADATA_REFUSED" in await site.refused(path)


async def test_changed_image_metadata_lets_no_model_in(site: Site) -> None:
    name = bundle.image_name("timestamp.json")
    changed = site.world.files()["timestamp.json"].replace(b'"version":', b'"version":1')
    with pytest.raises(BundleError):
        await site.load(site.stick(site.plan(5), changes={name: changed}))
    assert site.installed() == frozenset()


async def test_a_blob_with_another_byte_is_refused_and_leaves_nothing_installed(
    site: Site,
) -> None:
    path = site.stick(site.plan(5))
    data = bytearray(path.read_bytes())
    shard = site.one.blobs[site.one.manifest.shards[0].sha256]
    at = data.index(shard)
    data[at + len(shard) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="DIGEST_MISMATCH"):
        await site.load(path)
    assert site.installed() == frozenset()
    await site.load(site.stick(site.plan(6)))
    assert site.installed() == {site.one.digest}


async def test_a_blob_that_is_missing_is_named(site: Site) -> None:
    shard = site.one.manifest.shards[0].sha256
    blobs = {name: data for name, data in site.world.image.blobs.items() if name != shard}
    with pytest.raises(BundleError, match="BLOB_NOT_FOUND"):
        await site.load(site.stick(site.plan(5), blobs=blobs))


async def test_a_bundle_cut_off_at_random_points_is_refused_and_the_whole_one_is_not(
    site: Site,
) -> None:
    path = site.stick(site.plan(5))
    whole = path.read_bytes()
    for at in CUTS:
        path.write_bytes(whole[: at * len(whole.rstrip(b"\0")) // 1000])
        await site.refused(path)
    path.write_bytes(whole)
    await site.load(path)


async def test_where_approvals_are_enforced_a_bundle_does_not_get_around_them(site: Site) -> None:
    key = SigningKey(generate_private_pem())
    site.world.image.set_policy(
        ApproverPolicy(
            schema=1,
            approvers=[Approver("ann", key.public_pem)],
            groups=[GroupPolicy("store", "device-enforced", 1)],
        )
    )
    assert "NOT_APPROVED" in await site.refused(site.stick(site.plan(5)))


async def test_a_folder_on_which_an_agent_runs_is_left_alone(site: Site) -> None:
    path = site.stick(site.plan(5))
    running = State(site.state)
    try:
        with pytest.raises(StartupError):
            await site.load(path)
    finally:
        running.close()


class KilledError(BaseException):
    """kill -9."""


@pytest.mark.parametrize("after", range(1, 14, 2))
async def test_an_import_that_was_killed_anywhere_is_done_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Each time that something is brought to the disk is a moment to be killed at."""
    path, left, fsync = site.stick(site.plan(5)), [after], os.fsync

    def dying(descriptor: int) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise KilledError
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", dying)
    with suppress(KilledError):
        await site.load(path)
    monkeypatch.setattr(os, "fsync", fsync)
    assert (await site.load(path)).version == 5
    assert site.installed() == {site.one.digest}
