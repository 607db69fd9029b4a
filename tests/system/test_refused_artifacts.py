"""What was tampered with on the way is refused, by name, and the old model goes on answering."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import Agent, wait_for
from simulators.fleet import MODEL, Fleet, ask

DEVICE = "refuser"


@pytest.fixture(scope="module")
def agent(fleet: Fleet) -> Agent:
    made = fleet.agent(DEVICE)
    fleet.wait_online([DEVICE])
    assert fleet.roll_out("1.0.0", [DEVICE]) == {DEVICE: "SUCCEEDED"}
    return made


def blob(fleet: Fleet, sha256: str) -> Path:
    return fleet.controller.data / "blobs" / "sha256" / sha256[:2] / sha256


def weights_of(pushed: dict[str, Any]) -> str:
    return str(pushed["variants"][0]["manifest"]["shards"][0]["sha256"])


def manifest_of(pushed: dict[str, Any]) -> str:
    return str(pushed["variants"][0]["digest"])


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


def flip_a_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2]


def run(fleet: Fleet, release: str) -> dict[str, Any]:
    rollout = fleet.start_rollout(release, [DEVICE])
    return fleet.wait_finished(rollout)[DEVICE]


def assert_nothing_of_it_remains(fleet: Fleet, agent: Agent) -> None:
    assert ask(agent)[1] == fleet.digests["1.0.0"]
    assert not [path for path in (agent.state / "partial").glob("*") if path.is_file()]
    kept = {path.name for path in (agent.state / "versions").iterdir()}
    assert kept == {fleet.digests["1.0.0"]}
    blobs = [path for path in (agent.state / "blobs").rglob("*") if path.is_file()]
    assert len(blobs) <= 2, blobs  # the running weights, and its manifest if that is kept as a blob


@pytest.mark.parametrize(
    ("release", "which", "change", "code"),
    [
        ("4.0.0", weights_of, flip_a_bit, "DIGEST_MISMATCH"),
        ("4.0.1", weights_of, truncate, "SIZE_MISMATCH"),
        ("4.0.2", manifest_of, flip_a_bit, "DIGEST_MISMATCH"),
        ("4.0.3", manifest_of, truncate, "SIZE_MISMATCH"),
    ],
    ids=["flipped weights", "truncated weights", "flipped manifest", "truncated manifest"],
)
def test_a_damaged_artifact_is_refused_by_name(
    fleet: Fleet,
    agent: Agent,
    *,
    release: str,
    which: Callable[[dict[str, Any]], str],
    change: Callable[[bytes], bytes],
    code: str,
) -> None:
    damaged = which(fleet.push(release, f"I am {release}."))
    rewrite(blob(fleet, damaged), change)
    execution = run(fleet, release)
    assert execution["state"] == "FAILED"
    assert execution["reason"]["code"] == code
    assert execution["reason"]["expected"]
    assert execution["reason"]["found"]
    assert damaged[:12] in execution["reason"]["message"]
    assert_nothing_of_it_remains(fleet, agent)


def test_bytes_that_change_on_the_device_are_not_loaded_again(fleet: Fleet, agent: Agent) -> None:
    agent.terminate()
    weights = next(
        path
        for path in (agent.state / "blobs").rglob("*")
        if path.is_file() and path.stat().st_size > 100_000
    )
    original = weights.read_bytes()
    rewrite(weights, flip_a_bit)
    agent.start()
    refused = [
        record
        for record in wait_for("a refusal in the audit", lambda: refusals(fleet))
        if record["detail"].get("code") == "DIGEST_MISMATCH"
    ]
    assert refused
    rewrite(weights, lambda _: original)
    agent.terminate()
    agent.start()
    assert ask(agent)[1] == fleet.digests["1.0.0"]


def refusals(fleet: Fleet) -> list[dict[str, Any]]:
    return [
        record for record in fleet.device_audit(DEVICE) if record["tag"] == "agent:model:refused"
    ]


def test_a_key_that_is_not_the_publishers_adds_nothing_to_a_release(fleet: Fleet) -> None:
    fleet.sprat("keys", "generate", "--out", str(fleet.folder / "unknown"), "-o", "json")
    answer = fleet.controller.sprat(
        *("models", "push", str(fleet.folder / "1.0.0.gguf"), "--name", MODEL),
        *("--release", "6.0.0", "--key", str(fleet.folder / "unknown.pem"), "--variants", "q4_0"),
        *("--publisher", "publisher", "--no-evaluation"),
        check=False,
    )
    assert answer.status == 6
    assert "found it signed by others" in answer.errors
    assert "Traceback" not in answer.errors
