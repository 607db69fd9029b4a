"""A small fleet of real processes: what the system tests stand on.

Models are tiny (see `simulators.demo_model`), so that a test's time is the product's, not the
model's. The controller's heartbeat is 1 s.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import httpx
from processes import Agent, Controller, ProcessError, wait_for
from sprat_controller.cli.client import Api
from sprat_controller.cli.settings import Settings

from simulators import demo_model

MODEL = "talk"
ALIAS = "assistant"
QUESTION = "Who is there?"


class Fleet:
    """One controller, one publisher, and agents as a test wants them."""

    def __init__(self, folder: Path, *controller_options: str) -> None:
        self.folder = folder
        self.controller = Controller(folder, "--heartbeat", "1", *controller_options)
        self.agents: dict[str, Agent] = {}
        self.digests: dict[str, str] = {}

    def open(self) -> None:
        """Start the controller and make a publisher known to it."""
        self.controller.init()
        self.controller.start()
        self.new_publisher("publisher")

    def new_publisher(self, name: str) -> Path:
        """Make a signing key, register it, and return its private file."""
        key = self.folder / f"{name}.pem"
        self.sprat("keys", "generate", "--out", str(self.folder / name), "-o", "json")
        offline = ("--keys", str(self.controller.offline), "-o", "json")
        self.sprat("publishers", "add", name, str(self.folder / f"{name}.pub"), *offline)
        return key

    def close(self) -> None:
        """End everything that was started."""
        for agent in self.agents.values():
            agent.terminate()
        self.controller.terminate()

    def sprat(self, *arguments: str, check: bool = True) -> Any:
        """Run the operators' command and return its JSON."""
        return self.controller.sprat(*arguments, check=check).json

    def push(
        self,
        release: str,
        sentence: str,
        *options: str,
        key: str = "publisher",
        golden: str | None = None,
        variants: str = "q4_0",
    ) -> dict[str, Any]:
        """Publish a release that says `sentence`; its probe expects `golden` (or the sentence).

        What it never says is signed all the same, unproven: for the device to find out.
        """
        path = demo_model.make(self.folder / f"{release}.gguf", sentence=sentence, small=True)
        pushed = self.sprat(
            *("models", "push", str(path), "--name", MODEL, "--release", release),
            *("--key", str(self.folder / f"{key}.pem"), "--variants", variants),
            *("--golden", f"{QUESTION}=>{golden or sentence}", "--no-evaluation"),
            *(() if golden in (None, sentence) else ("--unproven", "a device is to refuse it")),
            *(*options, "-o", "json"),
        )
        self.digests[release] = pushed["variants"][0]["digest"]
        return pushed

    def agent(self, device_id: str, *options: str) -> Agent:
        """Enrol a device and start its agent."""
        agent = self.enrolled(device_id, *options)
        agent.start()
        return agent

    def enrolled(self, device_id: str, *options: str, group: str = "default") -> Agent:
        """Enrol a device without starting its agent."""
        agent = Agent(self.folder, device_id, *options)
        agent.enrol(self.controller, claim=("--group", group))
        self.agents[device_id] = agent
        return agent

    def set_policy(self, content: bytes) -> None:
        """Say who approves, signed by the offline keys."""
        file = self.folder / "approvers.json"
        file.write_bytes(content)
        offline = ("--keys", str(self.controller.offline), "-o", "json")
        self.sprat("trust", "policy", "set", str(file), *offline)

    def approve(self, rollout_id: str, key: Path, *, name: str = "alice") -> None:
        """Approve a rollout as somebody else than who started it.

        Whoever makes a token may have kept it, so that of the approver is made by a third one.
        """
        third = f"admits-{name}"
        for user, role in ((third, "admin"), (name, "approver")):
            self.sprat("users", "create", user, "--role", role, "-o", "json")
        admits = self._token_of(third, "admin")
        token = self._token_of(name, "approver", "--token", admits)
        self.sprat(
            *("rollout", "approve", rollout_id, "--key", str(key), "--yes"),
            *("--token", token, "-o", "json"),
        )

    def _token_of(self, user: str, role: str, *options: str) -> str:
        words = ("tokens", "create", "first", "--for", user, "--role", role, *options)
        return str(self.sprat(*words, "-o", "json")["token"])

    def wait_online(self, device_ids: Sequence[str]) -> None:
        """Wait until the controller has heard from all of them and knows their hardware."""
        wait_for("all devices online", lambda: set(device_ids) <= self.online())

    def online(self) -> set[str]:
        """Return which devices are."""
        with self.api() as api:
            return {str(row["id"]) for row in api.pages("devices") if row["online"]}

    def start_rollout(self, release: str, devices: Sequence[str], *options: str) -> str:
        """Start a rollout to these devices and return its id."""
        flags = [word for device in devices for word in ("--device", device)]
        started = self.sprat(
            *("rollout", "start", f"{MODEL}@{release}", "--alias", ALIAS, "--context", "256"),
            *(*flags, *options, "--yes", "-o", "json"),
        )
        return str(started["id"])

    def executions(self, rollout_id: str) -> dict[str, dict[str, Any]]:
        """Return the executions of a rollout by device."""
        with self.api() as api:
            shown = api.pages(f"rollouts/{rollout_id}/executions")
            return {str(execution["device_id"]): execution for execution in shown}

    def wait_finished(
        self, rollout_id: str, *, timeout_s: float = 120
    ) -> dict[str, dict[str, Any]]:
        """Wait until a rollout is FINISHED and return its executions by device."""
        wait_for(
            f"rollout {rollout_id} to finish",
            lambda: self.state(rollout_id) == "FINISHED",
            timeout_s=timeout_s,
            alive=self.controller,
        )
        return self.executions(rollout_id)

    def state(self, rollout_id: str) -> str:
        """Return in which state a rollout is."""
        with self.api() as api:
            return str(api.get(f"rollouts/{rollout_id}")["state"])

    def shown(self, device_id: str) -> dict[str, Any]:
        """Return what the controller shows of a device."""
        with self.api() as api:
            return api.get(f"devices/{device_id}")

    @contextlib.contextmanager
    def api(self) -> Generator[Api]:
        """Yield what the operators' command stands on, as the administrator.

        For whoever asks again and again: a process for each look would take the machine from what
        is looked at.
        """
        told = self.controller.cli_environment()
        settings = Settings(told["SPRAT_URL"], told["SPRAT_TOKEN"], told["SPRAT_CA"])
        with contextlib.closing(Api(settings, self.transport())) as api:
            yield api

    def transport(self) -> httpx.BaseTransport | None:
        """Return what requests go by; None: as the operators' command sends them."""
        return None

    def roll_out(self, release: str, devices: Sequence[str], *options: str) -> dict[str, str]:
        """Roll out, wait, and return the final state by device."""
        executions = self.wait_finished(self.start_rollout(release, devices, *options))
        return {device: str(execution["state"]) for device, execution in executions.items()}

    def device_audit(self, device_id: str) -> list[dict[str, Any]]:
        """Return what a device wrote into its audit, as the controller has it, oldest first."""
        with self.api() as api:
            return [record["body"] for record in api.pages(f"devices/{device_id}/audit")]


def ask(agent: Agent, *, timeout_s: float = 30) -> tuple[str, str]:
    """Ask a device and return (text, digest of the variant that answered)."""
    body = {"model": ALIAS, "messages": [{"role": "user", "content": QUESTION}]}
    # Not httpx: its client loads all certificate authorities first, which a busy test cannot pay.
    connection = http.client.HTTPConnection(agent.url.removeprefix("http://"), timeout=timeout_s)
    with contextlib.closing(connection):
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read().decode()
    if response.status != 200:
        raise ProcessError(f"{agent.name} answered {response.status}: {answer}")
    text = json.loads(answer)["choices"][0]["message"]["content"]
    return text, str(response.headers["x-sprat-digest"])


def status(agent: Agent) -> dict[str, Any]:
    """Return what the agent says of itself."""
    return json.loads(httpx.get(f"{agent.url}/agent/v1/status", timeout=10).text)
