"""Where the local API may listen."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest
from sprat_agent.api.addresses import ListenError
from sprat_agent.api.server import listen_on_loopback, listen_on_path


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.168.1.2:7772", "[::]:0"])
def test_an_address_that_others_can_reach_is_refused(listen: str) -> None:
    with pytest.raises(ListenError, match="expected a loopback address"):
        listen_on_loopback(listen)


@pytest.mark.parametrize(
    "listen", ["", "7772", "127.0.0.1", "localhost:", "127.0.0.1:x", "host:1", "127.0.0.1:70000"]
)
def test_what_is_no_address_is_one_clear_error(listen: str) -> None:
    with pytest.raises(ListenError, match="expected a"):
        listen_on_loopback(listen)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "127.0.0.2:0"])
def test_port_0_takes_a_free_one(listen: str) -> None:
    with listen_on_loopback(listen) as listener:
        assert listener.getsockname()[1] > 0


def test_a_taken_port_is_one_clear_error() -> None:
    with listen_on_loopback("127.0.0.1:0") as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ListenError, match=f"cannot listen on {taken}: Address already in use"):
            listen_on_loopback(taken)


def test_a_socket_that_a_dead_agent_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sprat.sock"
    listen_on_path(path).close()
    assert path.exists()
    with listen_on_path(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_socket_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sprat.sock"
    with listen_on_path(path):
        with pytest.raises(ListenError, match="another agent listens there"):
            listen_on_path(path)
        assert path.exists()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sprat.sock"
    path.write_text("mine")
    with pytest.raises(ListenError, match="something other than a socket"):
        listen_on_path(path)
    assert path.read_text() == "mine"


def test_a_path_that_is_too_long_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="AF_UNIX path too long"):
        listen_on_path(tmp_path / ("x" * 120))


async def test_no_part_of_an_answer_waits_for_the_one_before() -> None:
    found: asyncio.Queue[int] = asyncio.Queue()

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        found.put_nowait(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen_on_loopback("127.0.0.1:0")
    async with await asyncio.start_server(take, sock=listener):
        _reader, writer = await asyncio.open_connection(*listener.getsockname())
        async with asyncio.timeout(10):
            assert await found.get()
        writer.close()
        await writer.wait_closed()
