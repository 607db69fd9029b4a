"""The whole agent in one process, against a controller in memory."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest
from simulators.controller_end import ControllerEnd, MemoryCarrier
from simulators.scraping import Samples, samples
from simulators.sealed import journal_of, keys_in
from simulators.signed import assigned, release
from simulators.trusting import identity as enrolled
from simulators.trusting import trusting
from simulators.tuf_world import TufWorld
from simulators.waiting import until
from sprat_agent.audit.accounts import Accounts
from sprat_agent.audit.journal import EventWriter
from sprat_agent.composition import Agent, World, profile_of
from sprat_agent.config import NetworkConfig, RunConfig
from sprat_agent.errors import StartupError, StateError
from sprat_agent.main import main
from sprat_agent.measuring.kept import KeptMeasurement
from sprat_agent.measuring.occasion import basis
from sprat_agent.profile import probe
from sprat_agent.state import State
from sprat_agent.sync import voice
from sprat_agent.sync.ledger import Ledger
from sprat_agent.sync.outbox import Outbox
from sprat_agent.sync.phases import Event
from sprat_proto.fit import Profile
from sprat_proto.rates import Measured, TypeCost

NOW = datetime(2026, 11, 24, tzinfo=UTC)
WORLD = TufWorld()
RELEASE = release()
WORLD.image.publish(RELEASE.manifest)
# Any authority: nothing is reached, but an agent without one could not even try.
AUTHORITY = Path(certifi.where()).read_bytes()
PROFILE = Profile("x86_64", 1, (), 1 << 30, 1 << 29, 1 << 30, (), "Linux", True, ("llama.cpp",))  # noqa: FBT003 - in order of the fields


def agent_on(
    folder: Path,
    carrier: MemoryCarrier,
    listen: str = "127.0.0.1:0",
    network: NetworkConfig | None = None,
    *,
    profile: Profile = PROFILE,
    is_measured: bool = True,
) -> Agent:
    identity = enrolled(WORLD, folder)
    if not identity.folder.exists():
        keys_in(identity.folder)
    identity.ca_path.write_bytes(AUTHORITY)
    numbers = iter(range(1000))
    world = World(
        clock=lambda: NOW,
        is_synchronised=lambda: True,
        uniform=lambda low, _high: low,
        new_id=lambda: f"id-{next(numbers)}",
        on_transition=lambda _execution, _phase, _moment: None,
    )
    beyond = network or NetworkConfig()
    config = RunConfig(
        folder, listen, folder / "sprat.sock", None, "auto", beyond, is_measured=is_measured
    )
    return Agent(config, identity, profile, (carrier,), world)


@asynccontextmanager
async def running(folder: Path, carrier: MemoryCarrier) -> AsyncGenerator[Agent]:
    agent, stopped = agent_on(folder, carrier), asyncio.Event()
    task = asyncio.create_task(agent.run(stopped))
    await until(lambda: task.done() or (folder / "agent.json").exists())
    try:
        yield agent
    finally:
        stopped.set()
        await task


async def status(folder: Path) -> dict[str, Any]:
    url = json.loads((folder / "agent.json").read_text())["http"]
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{url}/agent/v1/status")).json()


async def figures(folder: Path) -> Samples:
    url = json.loads((folder / "agent.json").read_text())["http"]
    async with httpx.AsyncClient() as http:
        return samples((await http.get(f"{url}/metrics")).text)


async def test_it_says_how_it_is_and_goes_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = ControllerEnd()
    async with running(tmp_path, MemoryCarrier(end)):
        await until(lambda: end.bodies)
        found = await status(tmp_path)
        assert found["device_id"] == "gw-1"
        assert found["simulated"] is True
        assert found["controller"] == {"url": "https://controller", "carrier": "grpc"}
        # That its settings hold, and that it started.
        assert found["audit"]["next_seq"] == 5
        assert found["audit"]["refuses_rollouts"] is False
        assert await asyncio.to_thread(main, ["status", "--state", str(tmp_path)]) == 0
        assert json.loads(capsys.readouterr().out) == found
    assert not (tmp_path / "agent.json").exists()
    assert not (tmp_path / "sprat.sock").exists()
    async with running(tmp_path, MemoryCarrier(end)):
        await until(lambda: len(end.bodies) == 7)
    tags = [json.loads(body)["tag"] for body in end.bodies]
    assert tags == [
        "agent:configuration:changed",
        "agent:configuration:intended",
        "agent:configuration:ended",
        "agent:process:started",
        "application:access:summed",
        "agent:process:stopped",
        "agent:process:started",
    ]


async def test_what_fails_at_the_end_is_tried_again_and_keeps_nothing_else_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the first write gives up a step of the reserve; the next one finds it."""
    tried: list[str] = []
    for kind, name in ((EventWriter, "flush"), (Accounts, "close")):
        write = getattr(kind, name)

        def full(self: object, name: str = name, write: Callable[..., None] = write) -> None:
            tried.append(name)
            if name == "flush" or tried.count(name) == 1:
                raise StateError("disk full")
            write(self)

        monkeypatch.setattr(kind, name, full)
    async with running(tmp_path, MemoryCarrier(ControllerEnd(welcomes=False))):
        await status(tmp_path)
    assert tried == ["flush", "flush", "close", "close"]
    state = State(tmp_path)
    tags = [json.loads(one.body)["tag"] for one in journal_of(state).batch(100, 1 << 20)]
    state.close()
    assert tags[-2:] == ["application:access:summed", "agent:process:stopped"]


async def test_its_figures_follow_the_link_and_what_is_kept(tmp_path: Path) -> None:
    verify_image(tmp_path)
    end = ControllerEnd(welcomes=False)
    async with running(tmp_path, carrier := MemoryCarrier(end)):
        before = await figures(tmp_path)
        assert before["sprat_memory_budget_bytes",] == PROFILE.memory_budget_bytes
        assert before["sprat_outbox_records", ("kind", "audit")] == 4
        assert before["sprat_outbox_records", ("kind", "report")] == 0
        assert 0 < before["sprat_sync_age_seconds",] < 60
        end.welcomes, end.assignment = True, WORLD.plan("gw-1", 1, [RELEASE.wanted("e1")])
        carrier.cut()
        await until(lambda: "IN_PROGRESS" in end.states)
        after = await figures(tmp_path)
    for name in ("sprat_outbox_records", "sprat_outbox_bytes"):
        assert after[name, ("kind", "audit")] > before[name, ("kind", "audit")]
    assert 0 < after["sprat_sync_age_seconds",] < 60


async def test_systemd_hears_when_it_is_ready_lives_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        end = ControllerEnd()
        async with running(tmp_path, MemoryCarrier(end)):
            await until(lambda: end.bodies)
        heard = [listener.recv(4096).decode().splitlines()[0] for _ in range(4)]
    assert heard == ["STATUS=loading models", "READY=1", "WATCHDOG=1", "STOPPING=1"]


async def test_it_obeys_an_assignment_and_waits_for_blobs(tmp_path: Path) -> None:
    verify_image(tmp_path)
    end = ControllerEnd(assignment=WORLD.plan("gw-1", 1, [RELEASE.wanted("e1")]))
    async with running(tmp_path, MemoryCarrier(end)):
        await until(lambda: "IN_PROGRESS" in end.states)
        found = await status(tmp_path)
        assert found["assignment_version"] == 1
        assert [one["phase"] for one in found["executions"]] == ["DOWNLOADING"]


async def test_a_committed_model_that_is_gone_is_audited_and_the_agent_serves_on(
    tmp_path: Path,
) -> None:
    commit(tmp_path)
    end = ControllerEnd()
    async with running(tmp_path, MemoryCarrier(end)):
        await until(lambda: any(b"agent:model:refused" in body for body in end.bodies))
        assert (await status(tmp_path))["models"] == []
        assert list(end.hellos[0].running) == []


async def test_what_was_measured_before_is_told_with_the_first_hello(tmp_path: Path) -> None:
    real = replace(PROFILE, simulated=False)
    found = Measured(1, probe.engine(), 1, 10**10, 1, 2, 3, (TypeCost("q4_0", 4, 5),))
    state = State(tmp_path)
    KeptMeasurement(state).keep(basis(real, probe.engine()), found)
    state.close()
    end = ControllerEnd()
    stopped = asyncio.Event()
    agent = agent_on(tmp_path, MemoryCarrier(end), profile=real)
    task = asyncio.create_task(agent.run(stopped))
    await until(lambda: task.done() or end.hellos)
    stopped.set()
    await task
    assert end.hellos[0].profile.measured == voice.measured(found)
    assert end.hellos[0].profile.memory_available_bytes > 0


@pytest.mark.parametrize(
    ("is_declared", "is_measured", "expected"),
    [(True, True, False), (False, False, False), (False, True, True)],
)
async def test_a_declared_device_and_one_that_must_not_do_not_measure(
    tmp_path: Path, *, is_declared: bool, is_measured: bool, expected: bool
) -> None:
    profile = replace(PROFILE, simulated=is_declared)
    end, stopped = ControllerEnd(), asyncio.Event()
    agent = agent_on(tmp_path, MemoryCarrier(end), profile=profile, is_measured=is_measured)
    task = asyncio.create_task(agent.run(stopped))
    await until(lambda: task.done() or end.hellos)
    names = {one.get_name() for one in asyncio.all_tasks()}
    stopped.set()
    await task
    assert "link" in names
    assert ("measuring" in names) is expected


def verify_image(folder: Path) -> None:
    """Leave a state in which the image repository was verified once."""
    state = State(folder)
    trusting(WORLD, state, folder).image.refresh()
    state.close()


def commit(folder: Path) -> None:
    """Leave a state in which a model is committed whose files are not there."""
    state = State(folder)
    journal, outbox = journal_of(state, lambda: NOW), Outbox(state)
    ledger = Ledger(state, journal, outbox, lambda: NOW)
    with state.transaction() as connection:
        ledger.keep_assignment(connection, assigned(1, [RELEASE.wanted("e1")]), NOW)
    execution = ledger.queue(RELEASE.wanted("e1"), 256)
    while execution.phase != "COMMITTING":
        execution = ledger.step(execution, Event.DONE)
    ledger.commit(execution, RELEASE.manifest)
    state.close()


async def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="loopback"):
        await agent_on(tmp_path, MemoryCarrier(ControllerEnd()), "8.8.8.8:1").run(asyncio.Event())
    State(tmp_path).close()  # and the folder is free again


def test_beyond_loopback_an_agent_without_tls_and_keys_does_not_start(tmp_path: Path) -> None:
    bare = NetworkConfig("0.0.0.0:0")
    with pytest.raises(StartupError, match="missing are --tls-certificate, --tls-key, --api-keys"):
        agent_on(tmp_path, MemoryCarrier(ControllerEnd()), network=bare)
    State(tmp_path).close()  # and the folder is free


def test_a_declared_profile_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="profile"):
        profile_of(tmp_path / "none.json", tmp_path)
    assert not profile_of(None, tmp_path).simulated


def test_without_the_key_of_its_audit_log_it_does_not_start_and_says_so(tmp_path: Path) -> None:
    keys_in(tmp_path / "identity")
    (tmp_path / "identity" / "audit-key.pem").write_bytes(b"cut off")
    with pytest.raises(StartupError, match=r"audit-key\.pem.*enrol anew"):
        agent_on(tmp_path, MemoryCarrier(ControllerEnd()))
    # Nothing is held that would keep the next start away.
    State(tmp_path).close()


async def test_other_settings_are_intended_and_hold_once_it_serves(tmp_path: Path) -> None:
    def told() -> list[tuple[str, str, str]]:
        state = State(tmp_path)
        records = [json.loads(one.body) for one in journal_of(state).batch(1000, 1 << 20)]
        state.close()
        return [
            (one["tag"].split(":")[2], one["outcome"], one["after"])
            for one in records
            if one["tag"] in {"agent:configuration:intended", "agent:configuration:ended"}
        ]

    carrier = MemoryCarrier(ControllerEnd(welcomes=False))
    for _ in range(2):
        async with running(tmp_path, carrier):
            pass
    first = told()
    assert [one[:2] for one in first] == [("intended", "success"), ("ended", "success")]
    # Other settings with which it cannot even listen: they never held.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError):
            await agent_on(tmp_path, carrier, f"127.0.0.1:{port}").run(asyncio.Event())
    assert [one[0] for one in told()] == ["intended", "ended", "intended"]
    async with running(tmp_path, carrier):
        pass
    assert [one[:2] for one in told()[2:]] == [("intended", "success"), ("ended", "failure")]
    assert told()[2][2] == told()[3][2] != first[0][2]
