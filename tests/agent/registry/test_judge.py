"""The two repositories together, on a device: what a thief of the director's keys cannot do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.signed import Release, release
from simulators.trusting import Clockwork, WorldRemote, judge, trusting
from simulators.tuf_world import NOW, TufWorld, target, target_of
from sprat_agent.registry.trust import Past
from sprat_agent.state import State
from sprat_agent.sync.ports import ExecutionError, RetryLaterError
from sprat_proto import manifest
from sprat_proto.assignment import AssignedModel
from sprat_proto.states import ReasonCode
from tuf.api.metadata import TargetFile

# The names of tuf.api.metadata are its documented API; it re-exports them without saying so.
# pyright: reportPrivateImportUsage=false, reportPrivateUsage=false

ONE, TWO = release(), release("2.0.0", counter=2)
ARM = release("3.0.0", counter=3, hardware_ids=["cpu-aarch64"])
EVIL = release("9.0.0", [b"evil"], counter=9)


class Court:
    """A device that obeys its director."""

    def __init__(self, folder: Path) -> None:
        self.world = TufWorld()
        for one in (ONE, TWO, ARM):
            self.world.image.publish(one.manifest)
        self.state = State(folder)
        self.remote, self.clock = WorldRemote(self.world), Clockwork()
        self.trust = trusting(self.world, self.state, folder, self.remote, self.clock)
        self.past = Past(0, was_proved=False)
        self.judge = judge(self.trust, lambda _: self.past)
        self.version = 0

    def obey(self, wanted: AssignedModel, targets: Sequence[TargetFile] | None = None) -> None:
        self.version += 1
        message = self.world.plan("gw-1", self.version, [wanted], targets=targets)
        plan = self.trust.director.check(message)
        with self.state.transaction() as connection:
            self.trust.director.keep(connection, plan)

    async def refusal(self, one: Release, *targets: TargetFile) -> ReasonCode:
        self.obey(one.wanted("e"), targets or None)
        with pytest.raises(ExecutionError) as caught:
            await self.judge.permit(one.wanted("e"))
        assert caught.value.expected != caught.value.found
        return caught.value.code


@pytest.fixture
def court(tmp_path: Path) -> Iterator[Court]:
    made = Court(tmp_path)
    yield made
    made.state.close()


async def test_what_both_name_is_permitted_with_its_evidence(court: Court) -> None:
    court.obey(ONE.wanted("e"))
    permission = await court.judge.permit(ONE.wanted("e"))
    assert permission.named.sha256 == ONE.digest
    assert b"1.targets.json" in permission.evidence


async def test_t18_a_stolen_director_key_cannot_bring_what_is_not_released(court: Court) -> None:
    assert await court.refusal(EVIL) is ReasonCode.NOT_RELEASED


async def test_t18_nor_another_content_under_a_released_name(court: Court) -> None:
    forged = release(data=[b"other"])
    assert forged.path == ONE.path
    stated = target_of(forged.manifest)
    assert await court.refusal(forged, stated) is ReasonCode.REPOSITORIES_DISAGREE


async def test_t18_nor_what_is_for_other_hardware(court: Court) -> None:
    assert await court.refusal(ARM) is ReasonCode.WRONG_HARDWARE


async def test_t18_nor_lie_about_the_hardware(court: Court) -> None:
    data = manifest.encode(ARM.manifest)
    custom = {"name": "acme/talk", "release_counter": 3, "hardware_ids": ["cpu-x86_64"]}
    lie = target(ARM.path, data, custom)
    # The image repository decides for which hardware it is; the lie about it is never reached.
    assert await court.refusal(ARM, lie) is ReasonCode.WRONG_HARDWARE
    lie = target(ONE.path, manifest.encode(ONE.manifest), custom)
    assert await court.refusal(ONE, lie) is ReasonCode.REPOSITORIES_DISAGREE


async def test_t19_a_stolen_director_key_cannot_go_back_to_an_older_release(court: Court) -> None:
    court.past = Past(2, was_proved=False)
    assert await court.refusal(ONE) is ReasonCode.RELEASE_TOO_OLD


async def test_t9_a_publisher_cannot_release_for_hardware_that_it_may_not_sign_for(
    court: Court,
) -> None:
    court.world.image.limit_hardware("acme", ["cpu-aarch64"])
    assert await court.refusal(ONE) is ReasonCode.WRONG_HARDWARE


async def test_metadata_that_does_not_verify_ends_the_execution(court: Court) -> None:
    court.obey(ONE.wanted("e"))
    court.remote.answers["timestamp.json"] = b"{}"
    with pytest.raises(ExecutionError) as caught:
        await court.judge.permit(ONE.wanted("e"))
    assert caught.value.code is ReasonCode.METADATA_REFUSED


async def test_metadata_that_somebody_holds_back_is_waited_for(court: Court) -> None:
    court.obey(ONE.wanted("e"))
    court.clock.now = NOW + timedelta(days=8)
    with pytest.raises(RetryLaterError, match="ExpiredMetadataError"):
        await court.judge.permit(ONE.wanted("e"))
    court.world.set_time(court.clock.now)
    court.world.image.write_online()
    await court.judge.permit(ONE.wanted("e"))


async def test_t49_what_was_retired_is_permitted_no_longer(court: Court) -> None:
    court.obey(ONE.wanted("e"))
    await court.judge.permit(ONE.wanted("e"))
    court.world.image.retire(ONE.path)
    with pytest.raises(ExecutionError) as caught:
        await court.judge.permit(ONE.wanted("e"))
    assert caught.value.code is ReasonCode.NOT_RELEASED


async def test_the_whole_check_of_both_repositories_is_quick(court: Court) -> None:
    court.obey(ONE.wanted("e"))
    await court.judge.permit(ONE.wanted("e"))
    plans = [court.world.plan("gw-1", 10 + n, [ONE.wanted("e")]) for n in range(20)]
    took: list[float] = []
    for message in plans:
        court.world.image.write_online()
        began = time.perf_counter()
        plan = court.trust.director.check(message)
        with court.state.transaction() as connection:
            court.trust.director.keep(connection, plan)
        court.judge._permit_blocking(ONE.wanted("e"))
        took.append(time.perf_counter() - began)
    assert min(took) < 0.1  # the figure is for tests/bench; this is a brake
