"""Figures of the spine: an idle agent, a cold start, a long list of devices."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx
from figure import Figure
from processes import Agent, wait_for
from simulators import demo_model
from simulators.fleet import ALIAS, Fleet

RSS_BOUND_MIB: Final = 64.0
FIRST_TOKEN_BOUND_S: Final = 1.5
# Against reading the same rows with sqlite3 and writing the same JSON in one loop.
LIST_RATIO_BOUND: Final = 10.0
DEVICES: Final = 10_000
REPEATS: Final = 5
GIVE_UP_S: Final = 60


def figures() -> Iterator[Figure]:
    """Yield the figures of this area, each as it is measured."""
    with tempfile.TemporaryDirectory(prefix="sprat-bench-") as folder:
        fleet = Fleet(Path(folder))
        try:
            fleet.open()
            yield idle_rss(fleet)
            yield from first_token(fleet)
            yield device_list(fleet)
        finally:
            fleet.close()


def idle_rss(fleet: Fleet) -> Figure:
    """Resident memory of the agent's process: no model, gRPC link up, one heartbeat answered."""
    agent = fleet.agent("idle-1", "--carrier", "grpc")
    fleet.wait_online(["idle-1"])
    seen = last_seen(fleet)
    wait_for("another heartbeat", lambda: last_seen(fleet) != seen)
    return Figure("agent_idle_rss", rss_kib(agent.pid) / 1024, "MiB", RSS_BOUND_MIB)


def last_seen(fleet: Fleet) -> str:
    """When the controller last heard from the idle device."""
    return str(fleet.sprat("devices", "show", "idle-1", "-o", "json")["last_seen_at"])


def rss_kib(pid: int) -> int:
    """Resident set size of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"no VmRSS of process {pid}")


def first_token(fleet: Fleet) -> Iterator[Figure]:
    """From exec of the agent to the first token of a 0.6 B-shaped Q4_0, verified, pages warm."""
    agent = agent_with_large_model(fleet)
    weights = next(path for path in (agent.state / "blobs").rglob("*") if path.stat().st_size > 1e8)
    ours = [seconds_to_first_token(agent) for _ in range(REPEATS)]
    bare = [seconds_to_first_token_bare(weights) for _ in range(REPEATS)]
    value = statistics.median(ours)
    yield Figure(
        "process_start_to_first_token",
        value,
        "s",
        FIRST_TOKEN_BOUND_S,
        detail={
            "model_bytes": weights.stat().st_size,
            "bare_llama_cpp_s": round(statistics.median(bare), 3),
            "ratio_to_bare": round(value / statistics.median(bare), 3),
            "runs": [round(run, 3) for run in ours],
        },
    )


def agent_with_large_model(fleet: Fleet) -> Agent:
    """Roll the large model out to a device over the whole path."""
    path = fleet.folder / "large.gguf"
    demo_model.make_large(path)
    fleet.sprat(
        *("models", "push", str(path), "--name", "large", "--release", "1.0.0"),
        *("--key", str(fleet.folder / "publisher.pem"), "--variants", "q4_0"),
        *("--no-evaluation", "-o", "json"),
    )
    agent = fleet.agent("large-1")
    fleet.wait_online(["large-1"])
    started = fleet.sprat(
        *("rollout", "start", "large@1.0.0", "--alias", ALIAS, "--context", "2048"),
        *("--device", "large-1", "--yes", "-o", "json"),
    )
    executions = fleet.wait_finished(str(started["id"]), timeout_s=300)
    if executions["large-1"]["state"] != "SUCCEEDED":
        raise AssertionError(executions)
    return agent


def seconds_to_first_token(agent: Agent) -> float:
    """Start the agent anew and ask for one token as soon as its socket is there."""
    agent.terminate()
    body = {
        "model": ALIAS,
        "messages": [{"role": "user", "content": "Hello there"}],
        "max_tokens": 1,
    }
    transport = httpx.HTTPTransport(uds=agent.socket)
    # Made before the clock starts: a client's own set-up is not the agent's.
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=60) as client:
        begin = time.monotonic()
        agent.spawn()
        while time.monotonic() < begin + GIVE_UP_S:
            # Looking for the socket first: asking in vain would take the processor from the engine.
            time.sleep(0.01)
            if not Path(agent.socket).exists():
                continue
            with contextlib.suppress(httpx.TransportError):
                response = client.post("/v1/chat/completions", json=body)
                if response.status_code == 200:
                    return time.monotonic() - begin
                if response.status_code != 503:
                    raise AssertionError(response.text)
    raise AssertionError(f"no token within {GIVE_UP_S} s:\n{agent.log_tail()}")


BARE: Final = """
import sys, llama_cpp
llama = llama_cpp.Llama(sys.argv[1], n_ctx=2048, n_threads=2, verbose=False)
llama.create_chat_completion([{"role": "user", "content": "Hello there"}], max_tokens=1)
"""


def seconds_to_first_token_bare(weights: Path) -> float:
    """The same with llama-cpp-python alone: no verification, no API, no second process."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", BARE, weights], check=True, capture_output=True)
    return time.monotonic() - begin


def device_list(fleet: Fleet) -> Figure:
    """All of 10,000 devices through the API, against the bare rows as JSON."""
    database = next(fleet.controller.data.glob("*.db"))
    fill(database)
    headers = {"authorization": f"Bearer {fleet.controller.cli_environment()['SPRAT_TOKEN']}"}
    verify = str(fleet.controller.data / "ca.pem")
    with httpx.Client(
        base_url=fleet.controller.url, headers=headers, verify=context(verify)
    ) as http:
        through_api = [timed(lambda: list_devices(http)) for _ in range(REPEATS)]
    bare = [timed(lambda: list_bare(database)) for _ in range(REPEATS)]
    return Figure(
        "device_list_10000_ratio_to_bare_rows",
        statistics.median(through_api) / statistics.median(bare),
        "x",
        LIST_RATIO_BOUND,
        detail={
            "api_s": round(statistics.median(through_api), 3),
            "bare_s": round(statistics.median(bare), 3),
        },
    )


def context(ca: str) -> ssl.SSLContext:
    """TLS that trusts the controller's CA."""
    return ssl.create_default_context(cafile=ca)


def timed(run: Callable[[], object]) -> float:
    """Seconds that a call took."""
    begin = time.monotonic()
    run()
    return time.monotonic() - begin


def list_devices(http: httpx.Client) -> int:
    """Page through all devices."""
    count, after = 0, ""
    while True:
        params = {"limit": "1000"} | ({"after": after} if after else {})
        page = http.get("/api/v1/devices", params=params).json()
        count += len(page["items"])
        after = page["next"]
        if not after:
            if count < DEVICES:
                raise AssertionError(f"{count} devices listed")
            return count


def list_bare(database: Path) -> int:
    """Read the same rows with sqlite3 and make the same kind of JSON."""
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    rows = connection.execute("SELECT * FROM device ORDER BY id").fetchall()
    text = json.dumps([dict(row) for row in rows])
    connection.close()
    return len(text)


def fill(database: Path) -> None:
    """Add devices by copying the idle one's row under other names."""
    connection = sqlite3.connect(database)
    names = [
        f'"{row[1]}"' for row in connection.execute("PRAGMA table_info(device)") if row[1] != "id"
    ]
    columns = ", ".join(names)
    with connection:
        connection.executemany(
            f"INSERT INTO device (id, {columns})"  # noqa: S608 - names come from the schema
            f" SELECT ?, {columns} FROM device WHERE id = 'idle-1'",
            [(f"bench-{number:05d}",) for number in range(DEVICES)],
        )
    connection.close()
