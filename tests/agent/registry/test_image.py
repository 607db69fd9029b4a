"""What the image repository may say, by whom, and what a thief of its keys cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.signed import release
from simulators.trusting import Clockwork, WorldRemote, trusting
from simulators.tuf_world import NOW, TufWorld, keys, new_key, signed, target_of
from sprat_agent.registry import metadata
from sprat_agent.registry.device_trust import DeviceTrust
from sprat_agent.registry.source import SourceError
from sprat_agent.registry.tuf_client import MetadataRefusedError
from sprat_agent.state import State
from sprat_proto.trust import publisher_role
from tuf.api.metadata import MetaFile

# The names of tuf.api.metadata are its documented API; it re-exports them without saying so.
# pyright: reportPrivateImportUsage=false

ONE, TWO = release(), release("2.0.0", counter=2)


class Seen:
    """A device that has seen the repository once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = TufWorld()
        self.world.image.publish(ONE.manifest)
        self.remote, self.clock = WorldRemote(self.world), Clockwork()
        self.state = State(folder)
        self.trust: DeviceTrust = trusting(self.world, self.state, folder, self.remote, self.clock)
        self.trust.image.refresh()
        self.old = dict(self.world.files())

    def rows(self) -> dict[str, int]:
        """Return the newest version of each role."""
        with self.state.reading() as connection:
            return {row.role: row.version for row in metadata.read(connection, "image")}

    def refusal(self) -> str:
        """Return TUF's word for why a refresh was refused."""
        with pytest.raises(MetadataRefusedError) as caught:
            self.trust.image.refresh()
        return caught.value.why

    def forget_rows(self, *roles: str) -> None:
        """Lose rows, as a broken disk may; floors stay."""
        with self.state.transaction() as connection:
            for role in roles:
                connection.execute("UPDATE metadata SET data = x'' WHERE role = ?", (role,))

    def names(self, path: str, publisher: str = "acme") -> bool:
        return self.trust.image.prove(path, publisher).named is not None


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Seen]:
    made = Seen(tmp_path)
    yield made
    made.state.close()


def test_what_is_released_is_named_and_who_signed_it(seen: Seen) -> None:
    named = seen.trust.image.prove(ONE.path, "acme").named
    assert named is not None
    assert named.sha256 == ONE.digest
    key = seen.world.image.publisher_keys["acme"].public_key
    assert named.signer == f"acme ({key.keyid[:12]})"
    assert not seen.names(TWO.path)


def test_t4_targets_signed_by_one_of_two_are_refused(seen: Seen) -> None:
    image = seen.world.image
    image.write_targets(by=image.targets_keys[:1])
    image.write_online()
    assert seen.refusal() == "UnsignedMetadataError"


def test_t4_one_key_that_signs_twice_is_one_key(seen: Seen) -> None:
    image = seen.world.image
    image.write_targets(by=image.targets_keys[:1])
    name = f"{image.targets.version}.targets.json"
    twice = json.loads(image.contents[name])
    twice["signatures"] *= 2
    image.contents[name] = json.dumps(twice).encode()
    image.write_online()
    assert seen.refusal() == "DeserializationError"


def test_t5_yesterdays_timestamp_is_refused_and_nothing_changes(seen: Seen) -> None:
    seen.world.image.publish(TWO.manifest)
    seen.trust.image.refresh()
    before = seen.rows()
    seen.remote.answers["timestamp.json"] = seen.old["timestamp.json"]
    assert seen.refusal() == "BadVersionNumberError"
    assert seen.rows() == before


def test_t6_a_thief_of_the_timestamp_key_cannot_go_back_to_an_old_snapshot(seen: Seen) -> None:
    image = seen.world.image
    image.publish(TWO.manifest)
    seen.trust.image.refresh()
    image.timestamp.version += 1
    image.timestamp.snapshot_meta = MetaFile(image.version - 1)
    image.write_timestamp()
    assert seen.refusal() == "BadVersionNumberError"


@pytest.mark.parametrize("lost", [(), ("timestamp",), ("timestamp", "snapshot", "targets")])
def test_t7_a_thief_of_both_online_keys_cannot_go_back_to_old_targets(
    seen: Seen, lost: tuple[str, ...]
) -> None:
    image = seen.world.image
    image.limit_hardware("acme", ["cpu-x86_64"])
    seen.trust.image.refresh()
    seen.forget_rows(*lost)
    image.snapshot.meta["targets.json"] = MetaFile(1)
    image.write_online()
    assert seen.refusal() == "BadVersionNumberError"


def test_t7_nor_to_an_old_list_of_a_publisher(seen: Seen) -> None:
    image = seen.world.image
    image.retire(ONE.path)
    assert not seen.names(ONE.path)
    seen.forget_rows("timestamp", "snapshot", publisher_role("acme"))
    image.snapshot.meta[f"{publisher_role('acme')}.json"] = MetaFile(2)
    image.write_online()
    with pytest.raises(MetadataRefusedError) as caught:
        seen.names(ONE.path)
    assert caught.value.why == "BadVersionNumberError"


def test_t7_a_snapshot_never_drops_a_role(seen: Seen) -> None:
    seen.world.image.snapshot.meta.pop(f"{publisher_role('acme')}.json")
    seen.world.image.write_online()
    assert seen.refusal() == "RepositoryError"


def test_t8_a_root_of_strangers_is_refused(seen: Seen) -> None:
    image = seen.world.image
    image.root.version += 1
    image.contents["2.root.json"] = signed(image.root, keys(3))
    assert seen.refusal() == "UnsignedMetadataError"


def test_t8_a_root_that_skips_a_version_is_refused(seen: Seen) -> None:
    image = seen.world.image
    image.root.version += 2
    image.contents["2.root.json"] = signed(image.root, image.root_keys)
    assert seen.refusal() == "BadVersionNumberError"


def test_t8_a_root_needs_the_old_threshold_too(seen: Seen) -> None:
    image = seen.world.image
    for old in image.root_keys:
        image.root.revoke_key(old.public_key.keyid, "root")
    new = keys(3)
    for one in new:
        image.root.add_key(one.public_key, "root")
    image.root.version += 1
    image.contents["2.root.json"] = signed(image.root, new)
    assert seen.refusal() == "UnsignedMetadataError"


def test_t8_a_root_that_was_taken_is_never_another(seen: Seen) -> None:
    image = seen.world.image
    image.rotate_root()
    seen.trust.image.refresh()
    image.rotate_targets()
    other = image.contents["3.root.json"]
    seen.remote.answers["2.root.json"] = other
    seen.remote.answers["3.root.json"] = image.contents["2.root.json"]
    assert seen.refusal() == "BadVersionNumberError"
    seen.remote.answers.clear()
    seen.trust.image.refresh()
    assert seen.rows()["root"] == 3


def test_t9_a_publisher_outside_its_paths_is_not_heard(seen: Seen) -> None:
    foreign = release(publisher="other")
    image = seen.world.image
    stated = target_of(foreign.manifest)
    image.roles[publisher_role("acme")].targets[stated.path] = stated
    image.write_role(publisher_role("acme"))
    image.write_online()
    assert not seen.names(foreign.path, "other")


def test_t9_a_publisher_with_a_strangers_key_is_refused(seen: Seen) -> None:
    image = seen.world.image
    image.write_role(publisher_role("acme"), new_key())
    image.write_online()
    with pytest.raises(MetadataRefusedError) as caught:
        seen.names(ONE.path)
    assert caught.value.why == "UnsignedMetadataError"


@pytest.mark.parametrize(
    ("now", "is_synchronised"),
    [
        (NOW.replace(year=1970), True),
        (NOW.replace(year=1970), False),
        (NOW.replace(year=2099), False),
        (NOW - timedelta(days=3653), True),
        (NOW + timedelta(days=3653), False),
    ],
)
def test_t10_a_wrong_clock_makes_nothing_valid_that_has_expired(
    seen: Seen, now: object, *, is_synchronised: bool
) -> None:
    seen.clock.now, seen.clock.is_synchronised = now, is_synchronised  # pyright: ignore[reportAttributeAccessIssue]
    seen.trust.image.refresh()  # and nobody is locked out
    seen.world.set_time(NOW - timedelta(days=400))
    seen.world.image.write_online()
    assert seen.refusal() == "ExpiredMetadataError"


def test_t10_a_synchronised_clock_of_2099_locks_out_only_as_long_as_it_lasts(seen: Seen) -> None:
    seen.clock.now = NOW.replace(year=2099)
    assert seen.refusal() == "ExpiredMetadataError"
    seen.clock.now = NOW
    seen.trust.image.refresh()


ROTATIONS: list[Callable[[TufWorld], None]] = [
    lambda world: world.image.rotate_root(),
    lambda world: world.image.rotate_online(),
    lambda world: world.image.rotate_targets(),
]


@pytest.mark.parametrize("days", [1, 90, 800])
def test_t11_after_long_absence_the_first_contact_is_enough(seen: Seen, days: int) -> None:
    seen.world.set_time(NOW + timedelta(days=days))
    seen.clock.now = NOW + timedelta(days=days)
    seen.remote.is_away = True
    with pytest.raises(SourceError):
        seen.trust.image.refresh()
    seen.remote.is_away = False
    for rotate in ROTATIONS:
        rotate(seen.world)
    seen.world.image.publish(TWO.manifest)
    seen.world.image.write_targets()
    seen.world.image.write_online()
    assert seen.names(TWO.path)
    assert seen.rows()["root"] == 4


def test_a_chain_of_roots_longer_than_one_refresh_walks_is_walked_whole(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sprat_agent.registry.tuf_client.MAX_ROOT_ROTATIONS", 3)
    for _ in range(12):
        seen.world.image.next_root()
    seen.trust.image.refresh()
    assert seen.rows()["root"] == 13
    assert seen.names(ONE.path)


def test_roots_that_came_before_the_network_went_are_kept(seen: Seen) -> None:
    for _ in range(5):
        seen.world.image.next_root()
    del seen.world.image.contents["timestamp.json"]
    with pytest.raises(SourceError):
        seen.trust.image.refresh()
    assert seen.rows()["root"] == 6


def test_fast_forwarded_online_roles_are_freed_by_another_key(seen: Seen) -> None:
    image = seen.world.image
    image.write_online(2**31)
    seen.trust.image.refresh()
    image.write_online(9)
    assert seen.refusal() == "BadVersionNumberError"
    image.rotate_online()
    seen.trust.image.refresh()
    assert seen.rows()["timestamp"] == 1


def test_a_fast_forwarded_publisher_is_freed_by_another_snapshot_key(seen: Seen) -> None:
    image, role = seen.world.image, publisher_role("acme")
    image.roles[role].version = 10**6
    image.write_role(role)
    image.write_online()
    assert seen.names(ONE.path)
    image.roles[role].version = 5
    image.write_role(role)
    image.write_online()
    assert seen.refusal() == "BadVersionNumberError"
    image.rotate_online()
    assert seen.names(ONE.path)


def test_what_was_verified_serves_while_the_network_is_away_until_it_expires(seen: Seen) -> None:
    assert seen.names(ONE.path)
    seen.remote.is_away = True
    assert seen.names(ONE.path)
    seen.clock.now = NOW + timedelta(days=8)
    with pytest.raises(SourceError, match="away"):
        seen.names(ONE.path)
