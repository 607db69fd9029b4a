"""What systemd hears, over a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sprat_agent.sd_notify import ServiceManager


@dataclass
class Systemd:
    """The manager's end."""

    name: str  # as in NOTIFY_SOCKET
    socket: socket.socket

    def heard(self) -> str:
        return self.socket.recv(4096).decode()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@sprat/{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(10)
        yield Systemd(name, listener)


def test_it_says_when_it_starts_is_ready_and_stops(systemd: Systemd) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.name})
    manager.starting("loading models")
    manager.ready("serving")
    manager.stopping()
    assert systemd.heard() == "STATUS=loading models"
    assert systemd.heard() == "READY=1\nSTATUS=serving"
    assert systemd.heard().startswith("STOPPING=1\n")


async def test_it_gives_signs_of_life_twice_a_period(systemd: Systemd) -> None:
    environment = {
        "NOTIFY_SOCKET": systemd.name,
        "WATCHDOG_USEC": "200000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    loop = asyncio.get_running_loop()
    began = loop.time()
    living = asyncio.create_task(ServiceManager(environment).run())
    heard = [await asyncio.to_thread(systemd.heard) for _ in range(4)]
    took = loop.time() - began
    living.cancel()
    assert heard == ["WATCHDOG=1"] * 4
    assert took >= 0.3  # three halves of a period of 0.2 s


@pytest.mark.parametrize(
    "environment",
    [
        {"WATCHDOG_USEC": "1000"},  # nobody listens
        {"NOTIFY_SOCKET": "/run/notify"},
        {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
)
async def test_where_nobody_watches_it_gives_no_signs(environment: dict[str, str]) -> None:
    manager = ServiceManager(environment)
    assert manager.watchdog_s is None
    async with asyncio.timeout(5):
        await manager.run()


@pytest.mark.parametrize("found", ["0", "-5", "soon", "²"])
def test_a_period_that_is_none_is_said_and_not_kept(
    found: str, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": found})
    assert manager.watchdog_s is None
    assert "expected microseconds in WATCHDOG_USEC" in caplog.text


def test_a_socket_that_is_gone_is_logged_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "none")}).ready("serving")
    assert "systemd does not hear READY=1" in caplog.text


def test_an_address_of_another_kind_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": "vsock:2:1234"})
    manager.ready("serving")
    assert caplog.text.count("expected a path or @name") == 1


def test_a_manager_that_does_not_read_does_not_stop_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(10_000):
            if caplog.text:
                break
            manager.starting("loading models")
    assert "systemd does not hear" in caplog.text
