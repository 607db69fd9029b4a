"""The demo, step by step: publish, sign, plan, roll out, answer, and live through three failures.

Every step uses what users have: the `sprat` command, the agents' OpenAI-compatible API, files.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from processes import Agent, Answer, Controller, ProcessError, wait_for
from profiles import DEVICES, DemoDevice
from reporter import Reporter

MODEL: Final = "sprat-demo"
ALIAS: Final = "assistant"
PUBLISHER: Final = "demo-publisher"
QUESTION: Final = "What is a sprat?"
GOOD: Final = "small fish"
CONTEXT: Final = "512"
# One device, and the rest only if it succeeded.
LADDER: Final = ("--groups", "1,rest", "--success", "100")
REFUSED: Final = 6  # how `sprat` ends where a proof says no
VARIANTS: Final = {"f16", "q8_0", "q5_1", "q4_0"}
# A model of 2 million weights that this project trained: see the card in its folder.
TRAINED: Final = Path(__file__).resolve().parents[1] / "demo-model"
WEIGHTS: Final = TRAINED / "weights"
RELEASED: Final = WEIGHTS / "sprat-demo-1.0.0.gguf"
WORSE: Final = WEIGHTS / "sprat-demo-1.1.0-worse.gguf"


class StepFailedError(Exception):
    """A step of the demo did not do what it must."""


@dataclass
class Stage:
    """What the steps share."""

    folder: Path
    controller: Controller
    agents: dict[str, Agent]
    reporter: Reporter

    def expect(self, step: str, ok: object, **facts: Any) -> None:
        """Report a step; stop the demo if it failed."""
        self.reporter.result(step, ok=bool(ok), facts=facts)
        if not ok:
            raise StepFailedError(step)


@contextmanager
def stage(folder: Path, reporter: Reporter) -> Generator[Stage]:
    """Yield a stage and end every process that was started on it."""
    controller = Controller(folder, "--heartbeat", "1")
    agents = {device.device_id: _agent(folder, device) for device in DEVICES}
    try:
        yield Stage(folder, controller, agents, reporter)
    finally:
        for agent in agents.values():
            agent.terminate()
        controller.terminate()


def _agent(folder: Path, device: DemoDevice) -> Agent:
    profile = device.write_profile(folder)
    return Agent(folder, device.device_id, "--declare-profile", str(profile))


def tell(on: Stage) -> None:
    """Run the whole story.

    Raises:
        StepFailedError: A step did not do what it must; it was reported.
        ProcessError: A process did not come up or ended.
    """
    for chapter in CHAPTERS:
        on.reporter.chapter(str(chapter.__doc__).splitlines()[0])
        chapter(on)


def start_fleet(on: Stage) -> None:
    """A controller and three devices start, each a real process."""
    on.controller.init()
    ready = on.controller.start()
    on.expect("controller_started", ok=True, api=ready["api"], grpc=ready["grpc"])
    on.controller.sprat("keys", "generate", "--out", str(on.folder / "publisher"), "-o", "json")
    for device in DEVICES:
        agent = on.agents[device.device_id]
        agent.enrol(on.controller, device.label)
        agent.start()
        on.reporter.say(f"  {device.device_id}: {device.what} [dim](simulated profile)[/dim]")
    rows = wait_for("the devices to say hello", lambda: _online(on))
    on.expect("devices_enrolled", len(rows) == len(DEVICES), devices=[row["id"] for row in rows])


def publish_first(on: Stage) -> None:
    """A publisher signs a model with a key that the controller never sees."""
    public_key = str(on.folder / "publisher.pub")
    offline = ("--keys", str(on.controller.offline), "-o", "json")
    on.controller.sprat("publishers", "add", PUBLISHER, public_key, *offline)
    judged = (
        *("--calibration", str(TRAINED / "calibration.txt")),
        *("--evaluation-tokens", "512", "--no-rates"),
    )
    pushed = _push(on, "1.0.0", RELEASED, *judged)
    variants = sorted(variant["variant"] for variant in pushed["variants"])
    on.expect(
        "release_pushed", set(variants) >= VARIANTS, release=f"{MODEL}@1.0.0", variants=variants
    )


def roll_out_by_hardware(on: Stage) -> None:
    """Each device gets the best variant that its hardware can carry."""
    plan = on.controller.sprat(
        *("rollout", "plan", f"{MODEL}@1.0.0", "--alias", ALIAS, "--context", CONTEXT, "-o", "json")
    ).json
    rows = [_why(entry) for entry in plan["devices"]]
    on.reporter.table("Who gets what, and why", ["device", "variant", "because"], rows)
    chosen = {entry["device_id"]: entry["variant"] for entry in plan["devices"]}
    on.expect("plan_differs_by_hardware", len(set(chosen.values())) == len(DEVICES), chosen=chosen)
    started = _start_rollout(on, "1.0.0", *LADDER)
    executions = _finished(on, started)
    groups = _groups(on, started)
    on.reporter.say(f"  one device first, the rest once it had succeeded: {'; '.join(groups)}")
    states = {name: execution["state"] for name, execution in executions.items()}
    reasons = {name: execution["reason"] for name, execution in executions.items()}
    done = set(states.values()) == {"SUCCEEDED"}
    on.expect(
        "rolled_out",
        done and len(groups) == 2,  # noqa: PLR2004 - one device, and the rest
        executions=states,
        groups=groups,
        **({} if done else {"reasons": reasons}),
    )


def ask_a_device(on: Stage) -> None:
    """An application on a device asks its model over the OpenAI API."""
    answer = _ask(on.agents["gateway-1"])
    on.reporter.say(f"  [bold]{QUESTION}[/bold]\n  {answer['text']}")
    on.reporter.say(f"  {answer['model']}  sha256:{answer['digest'][:16]}…  {answer['signer']}")
    on.expect("device_answers", GOOD in answer["text"] and answer["signer"], **answer)


def refuse_a_tampered_blob(on: Stage) -> None:
    """Failure 1: an adapter comes with a release, and someone flips a bit of it in the store."""
    adapter = f"fisherman={WEIGHTS / 'fisherman.lora.gguf'}"
    _push(on, "1.1.0", RELEASED, "--adapter", adapter, "--no-evaluation")
    blob = _adapter_of(on, "1.1.0")
    original = _flip_a_bit(blob)
    started = _start_rollout(on, "1.1.0", "--device", "gateway-1")
    execution = _finished(on, started)["gateway-1"]
    answer = _ask(on.agents["gateway-1"])
    reason: dict[str, str] = execution["reason"] or {}
    on.reporter.say(f"  {reason.get('message')}")
    refused = execution["state"] == "FAILED" and reason.get("code") == "DIGEST_MISMATCH"
    on.expect(
        "tampered_blob_refused",
        refused and GOOD in answer["text"],
        state=execution["state"],
        reason=reason,
        still_answers=answer["model"],
    )
    _write_anyway(blob, original)


def live_without_the_controller(on: Stage) -> None:
    """Failure 2: the controller is gone; the devices keep answering and keep their audit."""
    on.controller.kill()
    agent = on.agents["kiosk-1"]
    offline = [_ask(agent)["text"] for _ in range(3)]
    on.expect("device_answers_offline", all(GOOD in text for text in offline), answers=len(offline))
    on.controller.start()
    wait_for("the devices to come back", lambda: _online(on))
    head = _status(agent)["audit"]["next_seq"] - 1
    arrived = wait_for("the device's audit", lambda: _audit_at_least(on, agent.device_id, head))
    verified = on.controller.sprat("audit", "verify", "--device", agent.device_id, "-o", "json")
    on.expect(
        "audit_arrived_complete",
        verified.json["ok"] and verified.json["records"] >= head,
        device_records=head,
        controller_records=arrived,
        chain="unbroken",
    )


def roll_back_a_bad_release(on: Stage) -> None:
    """Failure 3: a properly signed release that cannot speak; the device goes back by itself."""
    refused = _pushing(on, "1.2.0", WORSE, "--no-evaluation", check=False)
    said = refused.errors.splitlines()[-1]
    on.reporter.say(f"  its publisher's own run, before it signs: {said}")
    on.expect("publisher_refuses_to_sign", refused.status == REFUSED, error=said)
    _push(on, "1.2.0", WORSE, "--no-evaluation", "--unproven", "to see what a device says of it")
    started = _start_rollout(on, "1.2.0", *LADDER)
    shown = wait_for("the first group to fail", lambda: _in_state(on, started, "PAUSED"))
    tried = [one for one in shown["executions"] if one["state"] != "QUEUED"]
    spared = [one["device_id"] for one in shown["executions"] if one["state"] == "QUEUED"]
    canary = tried[0]
    answer = _ask(on.agents[canary["device_id"]])
    reason: dict[str, str] = canary["reason"] or {}
    on.reporter.say(f"  {canary['device_id']} went first: {reason.get('message')}")
    on.reporter.say(f"  so the rollout paused by itself; never asked: {', '.join(spared)}")
    on.controller.sprat("rollout", "stop", started, "--yes", "-o", "json")
    on.expect(
        "bad_release_rolled_back",
        canary["state"] == "ROLLED_BACK" and len(tried) == 1 and GOOD in answer["text"],
        state=canary["state"],
        reason=reason,
        never_asked=spared,
        still_answers=answer["model"],
    )


CHAPTERS: Final[tuple[Callable[[Stage], None], ...]] = (
    start_fleet,
    publish_first,
    roll_out_by_hardware,
    ask_a_device,
    refuse_a_tampered_blob,
    live_without_the_controller,
    roll_back_a_bad_release,
)


def _push(on: Stage, release: str, path: Path, *options: str) -> dict[str, Any]:
    return _pushing(on, release, path, *options).json


def _pushing(on: Stage, release: str, path: Path, *options: str, check: bool = True) -> Answer:
    return on.controller.sprat(
        *("models", "push", str(path), "--name", MODEL, "--release", release),
        *("--key", str(on.folder / "publisher.pem"), "--golden", f"{QUESTION}=>{GOOD}"),
        *("--variants", "f16,q8_0,q5_1,q4_0", *options, "-o", "json"),
        check=check,
    )


def _start_rollout(on: Stage, release: str, *options: str) -> str:
    started = on.controller.sprat(
        *("rollout", "start", f"{MODEL}@{release}", "--alias", ALIAS, "--context", CONTEXT),
        *(*options, "--yes", "-o", "json"),
    )
    return str(started.json["id"])


def _finished(on: Stage, rollout_id: str) -> dict[str, dict[str, Any]]:
    """Wait for the end of a rollout and return its executions by device."""
    on.controller.sprat("rollout", "watch", rollout_id, "-o", "json", check=False)
    shown = on.controller.sprat("rollout", "show", rollout_id, "-o", "json").json
    if shown["state"] != "FINISHED":
        raise ProcessError(f"rollout {rollout_id} did not finish: {shown['state']}")
    return {execution["device_id"]: execution for execution in shown["executions"]}


def _groups(on: Stage, rollout_id: str) -> list[str]:
    """Return how each group of a rollout stands, in words."""
    shown = on.controller.sprat("rollout", "show", rollout_id, "-o", "json").json
    return [
        f"group {one['name'] or one['number']} {one['state']}, {done} of {sum(counts.values())}"
        for one in shown["groups"]
        for counts in [one["counts"]]
        for done in [counts.get("SUCCEEDED", 0)]
    ]


def _in_state(on: Stage, rollout_id: str, state: str) -> dict[str, Any]:
    """Return a rollout once it is in this state, else nothing."""
    shown: dict[str, Any] = on.controller.sprat("rollout", "show", rollout_id, "-o", "json").json
    return shown if shown["state"] == state else {}


def _online(on: Stage) -> list[dict[str, Any]]:
    """Return the devices' rows once all are online, else nothing."""
    rows = on.controller.sprat("devices", "list", "-o", "json").json["items"]
    return rows if rows and all(row["online"] for row in rows) else []


def _why(entry: dict[str, Any]) -> list[str]:
    device = entry["device_id"] + (" (simulated)" if entry["simulated"] else "")
    lines = [f"{verdict['variant']}: {verdict['message']}" for verdict in entry["verdicts"]]
    return [device, entry["variant"] or "none", "\n".join(lines)]


def _ask(agent: Agent) -> dict[str, Any]:
    response = httpx.post(
        f"{agent.url}/v1/chat/completions",
        json={"model": ALIAS, "messages": [{"role": "user", "content": QUESTION}]},
        timeout=60,
    )
    response.raise_for_status()
    return {
        "text": response.json()["choices"][0]["message"]["content"],
        "model": response.headers["x-sprat-model"],
        "digest": response.headers["x-sprat-digest"],
        "signer": response.headers["x-sprat-signer"],
    }


def _status(agent: Agent) -> dict[str, Any]:
    return httpx.get(f"{agent.url}/agent/v1/status", timeout=10).json()


def _audit_at_least(on: Stage, device_id: str, head: int) -> int:
    shown = on.controller.sprat("audit", "verify", "--device", device_id, "-o", "json", check=False)
    records = int(shown.json["records"])
    return records if records >= head else 0


def _adapter_of(on: Stage, release: str) -> Path:
    """Return the file in the controller's blob store that holds a release's adapter."""
    shown = on.controller.sprat("models", "show", f"{MODEL}@{release}", "-o", "json").json
    sha256 = shown["variants"][0]["manifest"]["adapters"][0]["sha256"]
    return on.controller.data / "blobs" / "sha256" / sha256[:2] / sha256


def _flip_a_bit(path: Path) -> bytes:
    original = path.read_bytes()
    changed = bytearray(original)
    changed[len(changed) // 2] ^= 1
    _write_anyway(path, bytes(changed))
    return original


def _write_anyway(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)
