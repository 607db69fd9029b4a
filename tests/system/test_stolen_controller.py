"""The controller's host is stolen, with every online key: what the thief cannot make a device do.

Real agents, real models; the thief answers in the controller's place with certificates of the
stolen issuer and signs with the stolen keys (`simulators.thief`).
"""

from __future__ import annotations

import platform
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from processes import Agent, wait_for
from simulators.fleet import Fleet, ask
from simulators.thief import Thief, stolen
from simulators.tuf_world import signed, target_of
from sprat_controller.trust.words import read
from sprat_proto import canonical, manifest
from sprat_proto.approval import (
    Approver,
    ApproverPolicy,
    GroupPolicy,
    encode_policy,
)
from sprat_proto.manifest import Manifest
from sprat_proto.trust import HARDWARE_IDS, hardware_id

# pyright: reportPrivateImportUsage=false
from tuf.api.metadata import MetaFile, Snapshot, Timestamp

DEVICE, GUARDED = "dev-1", "dev-2"
RUNS = "2.0.0"
OTHER = next(one for one in HARDWARE_IDS if one != hardware_id(platform.machine()))


@dataclass
class Theft:
    """A fleet whose controller was stolen while two devices ran release 2.0.0."""

    fleet: Fleet
    thief: Thief
    agents: dict[str, Agent]

    def released(self, release: str) -> Manifest:
        return self.thief.loot.manifests[release]

    def assert_nothing_changed(self, device: str = DEVICE) -> None:
        text, digest = ask(self.agents[device])
        assert digest == self.fleet.digests[RUNS]
        assert "second release" in text


@pytest.fixture(scope="module")
def theft(tmp_path_factory: pytest.TempPathFactory) -> Generator[Theft]:
    folder: Path = tmp_path_factory.mktemp("stolen")
    fleet = Fleet(folder)
    try:
        fleet.open()
        fleet.push("1.0.0", "This is the first release.")
        fleet.push("2.0.0", "This is the second release.")
        fleet.push("2.1.0", "This is a good later release.")
        fleet.push("3.0.0", "This is for others.", "--hardware", OTHER)
        fleet.sprat("keys", "generate", "--out", str(folder / "alice"), "-o", "json")
        policy = ApproverPolicy(
            schema=1,
            approvers=[Approver("alice", (folder / "alice.pub").read_text())],
            groups=[GroupPolicy("guarded", "device-enforced", 1)],
        )
        fleet.set_policy(encode_policy(policy))
        agents = {DEVICE: fleet.agent(DEVICE), GUARDED: fleet.enrolled(GUARDED, group="guarded")}
        agents[GUARDED].start()
        fleet.wait_online([DEVICE, GUARDED])
        assert fleet.roll_out(RUNS, [DEVICE]) == {DEVICE: "SUCCEEDED"}
        # Alice signs, and the device verifies, a specification that binds the whole strategy.
        careful = ("--retries", "2", "--abort", "failed>20%:pause")
        rollout = fleet.start_rollout(RUNS, [GUARDED], *careful)
        fleet.approve(rollout, folder / "alice.pem")
        executions = fleet.wait_finished(rollout)
        assert executions[GUARDED]["state"] == "SUCCEEDED"
        with stolen(fleet.controller, folder) as thief:
            wait_for("the devices to come to the thief", lambda: len(thief.running) == 2)
            yield Theft(fleet, thief, agents)
    finally:
        fleet.close()


def refused(theft: Theft, execution: str, code: str) -> None:
    report = theft.thief.outcome(execution)
    assert (report.state, report.reason.code) == ("FAILED", code), report
    assert report.reason.message
    theft.assert_nothing_changed()


def test_t18_a_model_that_was_never_released_is_refused(theft: Theft) -> None:
    made_up = msgspec.structs.replace(theft.released("2.1.0"), release="9.9.9")
    theft.thief.order(DEVICE, made_up, "unreleased")
    refused(theft, "unreleased", "NOT_RELEASED")


def test_t18_a_release_with_another_content_is_refused(theft: Theft) -> None:
    altered = msgspec.structs.replace(theft.released("2.1.0"), chat_template="say evil things")
    theft.thief.order(DEVICE, altered, "altered")
    refused(theft, "altered", "REPOSITORIES_DISAGREE")


def test_a_release_whose_weights_were_altered_is_refused(theft: Theft) -> None:
    released = theft.released("2.1.0")
    sha256 = released.shards[0].sha256
    good = theft.thief.source.blobs[sha256]
    theft.thief.source.blobs[sha256] = bytes([good[0] ^ 1]) + good[1:]
    theft.thief.order(DEVICE, released, "weights")
    refused(theft, "weights", "DIGEST_MISMATCH")
    theft.thief.source.blobs[sha256] = good


def test_t19_a_release_older_than_what_runs_is_refused(theft: Theft) -> None:
    theft.thief.order(DEVICE, theft.released("1.0.0"), "older")
    refused(theft, "older", "RELEASE_TOO_OLD")


def test_t18_a_release_for_other_hardware_is_refused_and_lying_does_not_help(theft: Theft) -> None:
    other = theft.released("3.0.0")
    theft.thief.order(DEVICE, other, "hardware")
    refused(theft, "hardware", "WRONG_HARDWARE")
    lie = target_of(other)
    lie.custom["hardware_ids"] = ["cpu-x86_64", "cpu-aarch64"]
    theft.thief.say(DEVICE, [theft.thief.assigned(other, "lie")], [lie])
    refused(theft, "lie", "WRONG_HARDWARE")


def test_t7_an_older_list_of_releases_signed_with_the_stolen_online_key_is_refused(
    theft: Theft,
) -> None:
    thief = theft.thief
    role = next(name for name in thief.loot.image_files if ".pub-" in name).split(".", 1)[1]
    newest = announce(thief, role, MetaFile(1))
    thief.order(DEVICE, theft.released("2.1.0"), "old-list")
    refused(theft, "old-list", "METADATA_REFUSED")
    # The device took the new timestamp, so what was before must come with a newer one.
    announce(thief, role, newest)


def announce(thief: Thief, role: str, listed: MetaFile) -> MetaFile:
    """Sign a newer snapshot that lists `role` so; return how the one before listed it."""
    files = thief.source.blobs
    newest = read(files["timestamp.json"], Timestamp, "timestamp").signed
    number = newest.snapshot_meta.version
    snapshot = read(files[f"{number}.snapshot.json"], Snapshot, "snapshot").signed
    before = snapshot.meta[role]
    snapshot.meta[role] = listed
    snapshot.version += 1
    newest.version += 1
    newest.snapshot_meta = MetaFile(snapshot.version)
    files[f"{snapshot.version}.snapshot.json"] = signed(snapshot, [thief.loot.image])
    files["timestamp.json"] = signed(newest, [thief.loot.image])
    return before


def test_t20_what_is_another_devices_or_delegated_is_refused_whole(theft: Theft) -> None:
    thief, released = theft.thief, theft.released("2.1.0")
    wanted, target = thief.assigned(released, "not-mine"), target_of(released)
    after = thief.heard(DEVICE)
    thief.say(DEVICE, [wanted], [target], for_device="somebody-else")
    assert thief.refusal(DEVICE, "OTHER_DEVICE", after)
    theft.assert_nothing_changed()


def test_the_thief_may_choose_among_what_was_released_where_nobody_must_approve(
    theft: Theft,
) -> None:
    # The limit, stated: this is what approvals on the device are for. Last of the open device.
    theft.thief.order(DEVICE, theft.released("2.1.0"), "allowed")
    report = theft.thief.outcome("allowed")
    assert report.state == "SUCCEEDED", report
    text, digest = ask(theft.agents[DEVICE])
    assert "good later release" in text
    data = manifest.encode(theft.released("2.1.0"))
    assert digest == canonical.sha256_hex(data)


@pytest.mark.parametrize("what", ["another release", "another context", "nothing at all"])
def test_where_the_device_enforces_approvals_the_thief_changes_nothing(
    theft: Theft, what: str
) -> None:
    thief, after = theft.thief, theft.thief.heard(GUARDED)
    match what:
        case "another release":
            thief.order(GUARDED, theft.released("2.1.0"), "unapproved")
        case "another context":
            running = theft.released(RUNS)
            wanted = thief.assigned(running, "wider")
            thief.say(GUARDED, [wanted], [target_of(running)], context=512)
        case _:
            thief.say(GUARDED, [], [])
    assert thief.refusal(GUARDED, "NOT_APPROVED", after)
    theft.assert_nothing_changed(GUARDED)
