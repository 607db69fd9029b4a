"""What was asked of a real device's model, as its controller has it on record: all, and no word."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import httpx
from processes import Agent, wait_for
from simulators.fleet import ALIAS, Fleet, ask, status

CANARY: Final = "xylophonebird"
MESSAGES: Final = [{"role": "user", "content": f"Say it, {CANARY}."}]
CHAT: Final[dict[str, Any]] = {"model": ALIAS, "messages": MESSAGES, "temperature": 0}
ENDPOINTS: Final = {
    "openai": "/v1/chat/completions",
    "ollama": "/api/chat",
    "anthropic": "/v1/messages",
}
BASIS: Final = "GDPR Art. 6(1)(f): to find out why a till was answered wrongly"


def begun(fleet: Fleet, device: str, policy: str) -> Agent:
    """Return an agent under a policy, with the first release."""
    file = fleet.folder / f"{device}.toml"
    file.write_text(policy)
    agent = fleet.agent(device, "--audit-policy", str(file))
    fleet.wait_online([device])
    assert fleet.roll_out("1.0.0", [device], "--context", "1024") == {device: "SUCCEEDED"}
    return agent


def post(agent: Agent, dialect: str, **more: Any) -> int:
    body = {**CHAT, "max_tokens": 40, **more}
    if dialect == "ollama":
        del body["max_tokens"], body["temperature"]
        body.setdefault("stream", False)
    with httpx.Client(base_url=agent.url, timeout=30) as client:
        return client.post(ENDPOINTS[dialect], json=body).status_code


def leave(agent: Agent) -> None:
    """Ask for a stream of a long answer and go away after its first bytes."""
    connection = http.client.HTTPConnection(agent.url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        prompt = {"model": ALIAS, "prompt": CANARY, "stream": True}
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(prompt), headers)
        assert connection.getresponse().read(1)


def inferences(fleet: Fleet, device: str) -> list[dict[str, Any]]:
    return [one for one in fleet.device_audit(device) if ":inference:" in one["tag"]]


def wait_for_inferences(fleet: Fleet, device: str, count: int) -> list[dict[str, Any]]:
    wait_for(f"{count} records", lambda: len(inferences(fleet, device)) >= count)
    return inferences(fleet, device)


def wait_kept(agent: Agent, seq: int) -> None:
    """Wait until the device's log has a position."""
    wait_for(f"record {seq}", lambda: status(agent)["audit"]["next_seq"] > seq)


def assert_says_nothing(*folders: Path) -> None:
    """Hold that no database or log of a folder has the word."""
    files = [
        file
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and (".db" in file.name or file.suffix == ".log")
    ]
    assert {"agent.db", "controller.log"} <= {file.name for file in files}
    assert sum(file.name.endswith(".db") for file in files) > 1  # the controller's, too
    assert [file.name for file in files if CANARY.encode() in file.read_bytes()] == []


def test_each_answer_is_one_record_over_a_kill_and_none_has_a_word_of_it(fleet: Fleet) -> None:
    agent = begun(fleet, "each-1", 'inference = "each"\n')
    before = status(agent)["audit"]["next_seq"]
    for dialect in ENDPOINTS:
        for is_streamed in (False, True):
            assert post(agent, dialect, stream=is_streamed) == 200
    assert post(agent, "openai", model=CANARY) == 404
    assert post(agent, "openai", messages=CANARY) == 400  # nothing was inferred
    leave(agent)
    wait_kept(agent, before + 7)
    agent.kill()
    agent.start()
    assert post(agent, "openai", n=2) == 200
    found = wait_for_inferences(fleet, "each-1", 10)
    agent.terminate()
    assert inferences(fleet, "each-1") == found  # each once, and none by the hour
    told = Counter((one["tag"].rpartition(":")[2], one["detail"]["dialect"]) for one in found)
    assert told.pop(("canceled", "openai"), 0) + told.pop(("answered", "openai")) == 5
    assert told == {
        ("answered", "ollama"): 2,
        ("answered", "anthropic"): 2,
        ("failed", "openai"): 1,
    }
    for one in found:
        if one["tag"].endswith(":answered"):
            assert one["detail"]["digest"] == fleet.digests["1.0.0"]
            assert one["detail"]["caller"] == "loopback"
            assert one["actor"] == {"type": "application", "id": "loopback"}
            assert one["detail"]["tokens_in"] > 0 < one["detail"]["tokens_out"]
            assert 0 <= one["detail"]["ttft_ms"] <= one["detail"]["ms"] + 1
    (failed,) = [one for one in found if one["tag"].endswith(":failed")]
    assert (failed["outcome"], failed["subject"]) == ("failure", "none")
    assert failed["detail"]["reason"] == "model_not_found"
    tag, actor = "application:inference:answered", "application:loopback"
    listed = fleet.sprat(
        *("audit", "list", "--device", "each-1", "--tag", tag, "--actor", actor, "-o", "json")
    )
    assert len(listed["items"]) == sum(one["tag"] == tag for one in found)
    seqs = [one["seq"] for one in fleet.device_audit("each-1")]
    assert sorted(seqs) == list(range(1, len(seqs) + 1))
    assert_says_nothing(agent.state, fleet.folder)


def test_without_a_policy_an_hours_answers_are_one_record(fleet: Fleet) -> None:
    agent = fleet.agent("hourly-1")
    fleet.wait_online(["hourly-1"])
    assert fleet.roll_out("1.0.0", ["hourly-1"], "--context", "1024") == {"hourly-1": "SUCCEEDED"}
    for dialect in ENDPOINTS:
        assert post(agent, dialect) == 200
    with httpx.Client(transport=httpx.HTTPTransport(uds=agent.socket)) as client:
        told = client.post("http://localhost/v1/chat/completions", json=CHAT, timeout=30)
        assert told.status_code == 200
    assert httpx.get(f"{agent.url}/v1/models", headers={"host": "evil.example"}).status_code == 403
    agent.terminate()
    agent.start()
    found = wait_for_inferences(fleet, "hourly-1", 2)
    assert {one["tag"] for one in found} == {"application:inference:summed"}
    # An hour may have ended meanwhile.
    counts = Counter[str]()
    for one in found:
        counts[one["detail"]["caller"].partition(":")[0]] += one["detail"]["count"]
        assert one["detail"]["digest"] == fleet.digests["1.0.0"]
    assert counts == {"loopback": 3, "uid": 1}
    summed = [one for one in fleet.device_audit("hourly-1") if ":access:" in one["tag"]]
    refused = [one for one in summed if one["detail"].get("refused") == "host_not_allowed"]
    assert [(one["subject"], one["detail"]["status"]) for one in refused] == [("api/openai", "4xx")]
    assert_says_nothing(agent.state, fleet.folder)


def test_text_is_kept_only_with_a_basis_and_that_goes_on_record_first(fleet: Fleet) -> None:
    unfounded = fleet.folder / "unfounded.toml"
    unfounded.write_text('inference = "each"\n[capture]\ncontent = "text"\nretention_days = 30\n')
    policy = unfounded.read_text() + f'basis = "{BASIS}"\nmost_bytes = 64\n'
    agent = begun(fleet, "text-1", policy.replace('"text"', '"hash"'))
    assert ask(agent)[0]
    agent.terminate()
    (fleet.folder / "text-1.toml").write_text(policy)
    agent.start()
    assert ask(agent)[0] == "This is the first release."
    hashed, text = wait_for_inferences(fleet, "text-1", 2)
    assert set(hashed["detail"]["answer"]) == {"hmac_sha256", "bytes"}
    assert text["detail"]["answer"] == {"text": "This is the first release.", "bytes": 26}
    assert text["detail"]["prompt"]["cut_bytes"] > 0
    assert text["detail"]["retention_days"] == 30
    kept = fleet.device_audit("text-1")
    first, second = [one for one in kept if one["tag"] == "agent:capture:changed"]
    assert first["seq"] < hashed["seq"] < second["seq"] < text["seq"]
    assert (first["detail"]["before"]["content"], second["detail"]["after"]["basis"]) == (
        "none",
        BASIS,
    )
    (changed,) = [one for one in kept if one["tag"] == "agent:configuration:changed"][1:]
    assert changed["detail"]["changed"] == ["audit.policy"]
    agent.terminate()
    refused = subprocess.run(
        [
            *(sys.executable, "-m", "sprat_agent.main", "run", "--state", str(agent.state)),
            *("--audit-policy", str(unfounded)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert refused.returncode == 1
    assert "unfounded.toml is refused: to keep the text of what is said takes a legal basis" in (
        refused.stderr
    )
