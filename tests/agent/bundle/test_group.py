"""What two people said offline to a group: obeyed once, in order, and never to go back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from simulators.signed import Release, release
from simulators.site import Site
from simulators.tuf_world import NOW
from sprat_agent.bundle.load import Loaded
from sprat_agent.bundle.refusal import BundleError
from sprat_proto import approval, bundle
from sprat_proto.approval import Approver, ApproverPolicy, GroupPolicy, RolloutSpec
from sprat_proto.assignment import Policy
from sprat_proto.bundle import OfflineStatement
from sprat_proto.signing import SigningKey, generate_private_pem, merge

KEYS = {name: SigningKey(generate_private_pem()) for name in ("ann", "bob", "eve")}
DAY = 86400
BOTH = ("ann", "bob")


def people(*names: str) -> list[Approver]:
    return [Approver(name, KEYS[name].public_pem) for name in names]


def statement(
    counter: int,
    *models: Release,
    issued: datetime = NOW,
    days: int = 90,
    group: str = "store",
    approvals: Sequence[str] = (),
) -> OfflineStatement:
    at = int(issued.timestamp())
    return OfflineStatement(
        schema=1,
        group=group,
        counter=counter,
        issued=at,
        not_after=at + days * DAY,
        models=[one.wanted(f"offline-{counter}") for one in models],
        policy=Policy(256),
        approvals=list(approvals),
    )


def signed(said: OfflineStatement, by: Sequence[str] = BOTH) -> bytes:
    payload = bundle.encode_statement(said)
    return merge([KEYS[name].sign(payload, bundle.STATEMENT_TYPE) for name in by])


@pytest.fixture
def site(site: Site) -> Site:
    """A site whose director names ann and bob after the device was enrolled."""
    site.world.director.let_speak_offline(*people(*BOTH))
    return site


async def test_a_device_that_was_never_online_obeys_its_groups_statement(site: Site) -> None:
    loaded = await site.load(site.group_stick(signed(statement(7, site.one))))
    assert loaded == Loaded(7, (site.one.wanted("offline-7"),))
    assert site.installed() == {site.one.digest}
    assert site.version() == 7


async def test_a_statement_is_good_long_after_the_image_timestamp_expired(site: Site) -> None:
    path = site.group_stick(signed(statement(7, site.one)))
    site.clock.now = NOW + timedelta(days=89)
    await site.load(path)
    assert site.installed() == {site.one.digest}


async def test_image_metadata_that_had_expired_when_the_statement_was_issued_is_refused(
    site: Site,
) -> None:
    said = statement(7, site.one, issued=NOW + timedelta(days=8))
    site.clock.now = NOW + timedelta(days=8)
    with pytest.raises(BundleError, match="is refused"):
        await site.load(site.group_stick(signed(said)))
    assert site.installed() == frozenset()


async def test_an_expired_statement_is_refused(site: Site) -> None:
    path = site.group_stick(signed(statement(7, site.one)))
    site.clock.now = NOW + timedelta(days=91)
    assert "statement 7 has expired" in await site.refused(path)


async def test_a_statement_for_longer_than_90_days_is_refused(site: Site) -> None:
    path = site.group_stick(signed(statement(7, site.one, days=91)))
    assert "longer than 90 days" in await site.refused(path)


async def test_another_groups_statement_is_refused(site: Site) -> None:
    said = statement(7, site.one, group="oslo")
    message = await site.refused(site.group_stick(signed(said), group="store"))
    assert "is for the group oslo, and this device is of store" in message


@pytest.mark.parametrize("by", [["ann"], ["ann", "eve"], ["ann", "ann"]])
async def test_one_signature_of_two_is_refused(site: Site, by: list[str]) -> None:
    message = await site.refused(site.group_stick(signed(statement(7, site.one), by)))
    assert message.startswith("the bundle's statement is refused: expected 2 of ann")


async def test_one_signature_that_stands_there_twice_is_refused(site: Site) -> None:
    envelope = json.loads(signed(statement(7, site.one), ["ann"]))
    envelope["signatures"] *= 2
    path = site.group_stick(json.dumps(envelope).encode())
    assert "expected 2 of ann" in await site.refused(path)


async def test_one_key_that_the_root_names_twice_is_refused(site: Site) -> None:
    ann = KEYS["ann"].public_pem
    site.world.director.let_speak_offline(Approver("ann", ann), Approver("bob", ann))
    path = site.group_stick(signed(statement(7, site.one), ["ann"]))
    assert "expected each offline key and each name once" in await site.refused(path)


async def test_a_statement_that_was_changed_after_it_was_signed_is_refused(site: Site) -> None:
    good, other = (json.loads(signed(statement(7, one))) for one in (site.one, site.two))
    good["payload"] = other["payload"]
    path = site.group_stick(json.dumps(good).encode())
    assert "the bundle's statement is refused" in await site.refused(path)


async def test_without_offline_keys_in_the_root_nobody_speaks_to_groups(
    tmp_path: Path, weights: bytes
) -> None:
    (tmp_path / "plain").mkdir()
    plain = Site(tmp_path / "plain", weights)
    path = plain.group_stick(signed(statement(7, plain.one)))
    assert "names nobody who may speak to groups" in await plain.refused(path)


async def test_a_root_that_the_directors_holders_did_not_sign_names_nobody(
    site: Site, tmp_path: Path
) -> None:
    """A thief names keys of his own."""
    (tmp_path / "thief").mkdir()
    thief = Site(tmp_path / "thief", b"")
    thief.world.director.let_speak_offline(*people("eve"), threshold=1)
    site.world.director.roots[1] = thief.world.director.roots[1]
    path = site.group_stick(signed(statement(7, site.one), ["eve"]))
    assert "METADATA_REFUSED" in await site.refused(path)


async def test_an_expired_root_lets_nobody_speak(site: Site) -> None:
    later = NOW + timedelta(days=1100)
    path = site.group_stick(signed(statement(7, site.one, issued=later)))
    site.clock.now = later
    assert "the root expired" in await site.refused(path)


async def test_changed_image_metadata_lets_no_model_in(site: Site) -> None:
    files = site.world.image.contents
    files["timestamp.json"] = files["timestamp.json"].replace(b'"version":', b'"version":1')
    with pytest.raises(BundleError):
        await site.load(site.group_stick(signed(statement(7, site.one))))
    assert site.installed() == frozenset()


async def test_what_the_image_repository_does_not_release_is_refused(site: Site) -> None:
    unknown = release("9.0.0", [b"other"], counter=9)
    with pytest.raises(BundleError, match="NOT_RELEASED"):
        await site.load(site.group_stick(signed(statement(7, unknown))))


async def test_a_model_for_other_hardware_is_refused(site: Site) -> None:
    other = site.publish(release("3.0.0", [b"arm"], counter=3, hardware_ids=["cpu-aarch64"]))
    with pytest.raises(BundleError, match="WRONG_HARDWARE"):
        await site.load(site.group_stick(signed(statement(7, other))))


# What must never take a device back


async def test_a_statement_with_a_lower_counter_is_refused(site: Site) -> None:
    old = site.group_stick(signed(statement(7, site.one)), "old.sprat")
    new = statement(8, site.two, issued=NOW + timedelta(hours=1))
    await site.load(site.group_stick(signed(new)))
    assert "statement 7 is not above 8" in await site.refused(old)


async def test_another_statement_with_the_same_counter_is_refused(site: Site) -> None:
    await site.load(site.group_stick(signed(statement(7, site.one))))
    other = site.group_stick(signed(statement(7, site.two)))
    assert "statement 7 is not above 7" in await site.refused(other)


async def test_a_statement_from_before_the_obeyed_plan_is_refused(site: Site) -> None:
    old = site.group_stick(signed(statement(7, site.one)))
    site.world.set_time(NOW + timedelta(hours=1))
    await site.load(site.stick(site.plan(5, site.two)))
    assert "was issued before the plan that this device obeys" in await site.refused(old)


async def test_a_statement_that_was_obeyed_does_not_come_back_after_a_plan(site: Site) -> None:
    path = site.group_stick(signed(statement(7, site.one)))
    await site.load(path)
    site.world.set_time(NOW + timedelta(hours=1))
    await site.load(site.stick(site.plan(5, site.two)))
    assert "statement 7 is not above 7" in await site.refused(path)
    assert site.version() == 5


async def test_a_plan_from_before_the_obeyed_statement_is_refused(site: Site) -> None:
    old = site.stick(site.plan(5))
    said = statement(7, site.two, issued=NOW + timedelta(hours=1))
    await site.load(site.group_stick(signed(said)))
    message = await site.refused(old)
    assert "VERSION_BACK" in message
    assert "from after the offline statement" in message


async def test_the_plan_that_was_obeyed_before_the_statement_does_not_come_back(
    site: Site,
) -> None:
    old = site.stick(site.plan(5))
    await site.load(old)
    said = statement(7, site.two, issued=NOW + timedelta(hours=1))
    await site.load(site.group_stick(signed(said)))
    assert "VERSION_BACK" in await site.refused(old)


async def test_an_older_assignment_version_is_refused_after_a_statement_too(site: Site) -> None:
    await site.load(site.stick(site.plan(5)))
    said = statement(7, site.two, issued=NOW + timedelta(hours=1))
    await site.load(site.group_stick(signed(said)))
    site.world.set_time(NOW + timedelta(hours=2))
    message = await site.refused(site.stick(site.plan(4)))
    assert "expected assignment 5 or newer, found assignment 4" in message


async def test_a_later_plan_takes_over_from_a_statement(site: Site) -> None:
    await site.load(site.stick(site.plan(5)))
    said = statement(7, site.two, issued=NOW + timedelta(hours=1))
    await site.load(site.group_stick(signed(said)))
    site.world.set_time(NOW + timedelta(hours=2))
    loaded = await site.load(site.stick(site.plan(5)))  # the same, signed anew
    assert loaded.models == (site.one.wanted("e5"),)
    assert site.version() == 5


async def test_an_older_release_than_was_committed_is_refused(site: Site) -> None:
    await site.load(site.group_stick(signed(statement(7, site.two))))
    await site.run()
    path = site.group_stick(signed(statement(8, site.one, issued=NOW + timedelta(hours=1))))
    with pytest.raises(BundleError, match="RELEASE_TOO_OLD"):
        await site.load(path)
    assert await site.run() == {"assistant": site.two.digest}


async def test_image_metadata_below_its_floors_is_refused(site: Site) -> None:
    old = dict(site.world.files())
    site.world.image.write_online()
    await site.load(site.group_stick(signed(statement(7, site.one))))
    site.world.image.contents = old
    path = site.group_stick(signed(statement(8, site.two, issued=NOW + timedelta(hours=1))))
    with pytest.raises(BundleError, match="METADATA_REFUSED"):
        await site.load(path)
    assert site.installed() == {site.one.digest}


async def test_new_offline_keys_end_the_word_of_the_old_and_count_anew(site: Site) -> None:
    await site.load(site.group_stick(signed(statement(7, site.one))))
    site.world.director.let_speak_offline(*people("ann", "eve"))
    path = site.group_stick(signed(statement(8, site.two, issued=NOW + timedelta(hours=1))))
    assert "the bundle's statement is refused" in await site.refused(path)
    said = statement(1, site.two, issued=NOW + timedelta(hours=1))
    await site.load(site.group_stick(signed(said, ["ann", "eve"])))
    assert site.version() == 1


# Approvals, and what is done again


def enforce(site: Site, by: SigningKey) -> None:
    site.world.image.set_policy(
        ApproverPolicy(
            schema=1,
            approvers=[Approver("kim", by.public_pem)],
            groups=[GroupPolicy("store", "device-enforced", 1)],
        )
    )


async def test_where_approvals_are_enforced_a_statement_needs_them(site: Site) -> None:
    kim = SigningKey(generate_private_pem())
    enforce(site, kim)
    said = statement(7, site.one)
    assert "NOT_APPROVED" in await site.refused(site.group_stick(signed(said)))
    spec = RolloutSpec(
        schema=1,
        rollout_id="r-1",
        alias="assistant",
        digests=[site.one.digest],
        groups=["store"],
        context=256,
        max_in_progress=0,
        run_until=0,
        requested_by="carol",
        requester_key_id="",
        not_after=int(NOW.timestamp()) + 90 * DAY,
    )
    envelope = kim.sign(approval.encode(spec), approval.PAYLOAD_TYPE).decode()
    approved = msgspec.structs.replace(said, approvals=[envelope])
    site.clock.now = NOW + timedelta(days=60)
    await site.load(site.group_stick(signed(approved)))
    assert site.installed() == {site.one.digest}


async def test_the_same_statement_again_changes_nothing(site: Site) -> None:
    path = site.group_stick(signed(statement(7, site.one)))
    assert await site.load(path) == await site.load(path)


class KilledError(BaseException):
    """kill -9."""


@pytest.mark.parametrize("after", range(1, 14, 2))
async def test_an_import_that_was_killed_anywhere_is_done_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    path, left, fsync = site.group_stick(signed(statement(7, site.one))), [after], os.fsync

    def dying(descriptor: int) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise KilledError
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", dying)
    with suppress(KilledError):
        await site.load(path)
    monkeypatch.setattr(os, "fsync", fsync)
    assert (await site.load(path)).version == 7
    assert site.installed() == {site.one.digest}


@pytest.mark.parametrize("days", [0, 40])
async def test_what_came_on_a_stick_runs_without_any_network(site: Site, days: int) -> None:
    path = site.group_stick(signed(statement(7, site.one)))
    site.clock.now = NOW + timedelta(days=days)
    await site.load(path)
    assert await site.run() == {"assistant": site.one.digest}


async def test_it_runs_on_after_its_statement_has_expired(site: Site) -> None:
    await site.load(site.group_stick(signed(statement(7, site.one))))
    await site.run()
    site.clock.now = NOW + timedelta(days=400)
    assert await site.run() == {"assistant": site.one.digest}
