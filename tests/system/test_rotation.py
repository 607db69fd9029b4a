"""Online keys are rotated while a controller, its signer and a device run, as the runbook says.

Real processes, real models. The device follows each new root, runs what is released afterwards, and
answers all along.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import BIN, Agent, wait_for
from simulators.fleet import Fleet, ask
from simulators.thief import stolen
from sprat_proto.trust import DIRECTOR, IMAGE

DEVICE = "dev-1"
ASK_EVERY_S = 0.2
FAST_FORWARD = 1 << 31


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[Fleet]:
    """A fleet of one device that runs release 1.0.0."""
    fleet = Fleet(tmp_path_factory.mktemp("rotation"))
    try:
        fleet.open()
        fleet.push("1.0.0", "This is the first release.")
        fleet.agent(DEVICE)
        fleet.wait_online([DEVICE])
        assert fleet.roll_out("1.0.0", [DEVICE]) == {DEVICE: "SUCCEEDED"}
        yield fleet
    finally:
        fleet.close()


@contextmanager
def answered_all_along(agent: Agent) -> Generator[set[str]]:
    """Ask again and again; an unanswered question fails the test. Yields who answered."""
    over, who, failures = threading.Event(), set[str](), list[Exception]()

    def go_on() -> None:
        while not over.wait(ASK_EVERY_S):
            try:
                who.add(ask(agent)[1])
            except Exception as error:  # noqa: BLE001 - raised below, in the test's own thread
                failures.append(error)

    asking = threading.Thread(target=go_on)
    asking.start()
    try:
        yield who
    finally:
        over.set()
        asking.join(60)
    assert not failures
    assert who


def root_version(agent: Agent, repository: str) -> int:
    """Return the newest root that the device has verified; 1 is the pinned one."""
    uri = f"file:{agent.state / 'agent.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        (found,) = connection.execute(
            "SELECT max(version) FROM metadata WHERE repository = ? AND role = 'root'",
            (repository,),
        ).fetchone()
    return int(found or 1)


def refusals(agent: Agent) -> int:
    """Return how often the device has refused a plan since it was enrolled."""
    return agent.log.read_text(encoding="utf-8").count("an assignment is refused")


def signer_pid(fleet: Fleet) -> int | None:
    """Return the process id of the controller's signer, while there is one."""
    controller = fleet.controller.pid
    tasks = Path(f"/proc/{controller}/task").glob("*/children")
    children = [int(pid) for task in tasks for pid in task.read_text().split()]
    for pid in children:
        with contextlib.suppress(OSError):
            if b"sprat_controller.signer.main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return None


def restart_signer(fleet: Fleet) -> None:
    """Kill the controller's signer and wait for the next one, which has the folder's new keys."""
    before = signer_pid(fleet)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    socket = fleet.controller.data / "signer" / "signer.sock"

    def is_back() -> bool:
        # The name of the old socket is removed before another signer is started.
        return signer_pid(fleet) not in (None, before) and socket.exists()

    wait_for("another signer", is_back, alive=fleet.controller)


def signer_command(fleet: Fleet, verb: str, name: str) -> None:
    data = str(fleet.controller.data / "signer")
    subprocess.run([BIN / "sprat-signer", verb, name, "--data", data], check=True)


def rotate(fleet: Fleet, repository: str, *ceremony: str) -> None:
    """Rotate a repository's online key by the runbook's section."""
    name, stick = f"{repository}-online", str(fleet.folder / "stick")
    public = fleet.controller.data / "signer" / f"{name}.next.pub"
    signer_command(fleet, "new-key", name)
    fleet.sprat("trust", "fetch", stick, "-o", "json")
    fleet.sprat("trust", "ceremony", stick, *ceremony, "--rotate", f"{name}={public}", "-o", "json")
    for number in (1, 3):
        key = fleet.controller.offline / f"{repository}-root-{number}.pem"
        fleet.sprat("trust", "sign", stick, "--key", str(key), "-o", "json")
    signer_command(fleet, "use-key", name)
    restart_signer(fleet)
    fleet.sprat("trust", "publish", stick, "-o", "json")
    fleet.sprat("trust", "lint", stick, "-o", "json")


def released_and_running(fleet: Fleet, release: str) -> str:
    """Release something, roll it out and return the digest that answers then."""
    fleet.push(release, f"This is release {release}.")
    assert fleet.roll_out(release, [DEVICE]) == {DEVICE: "SUCCEEDED"}
    text, digest = ask(fleet.agents[DEVICE])
    assert release in text
    assert digest == fleet.digests[release]
    return digest


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("repository", "release"), [(DIRECTOR, "2.0.0"), (IMAGE, "3.0.0")])
def test_a_running_device_follows_a_rotated_online_key(
    running: Fleet, repository: str, release: str
) -> None:
    agent = running.agents[DEVICE]
    before, runs = root_version(agent, repository), ask(agent)[1]
    with answered_all_along(agent) as who:
        rotate(running, repository)
        digest = released_and_running(running, release)
    assert root_version(agent, repository) == before + 1
    assert who <= {runs, digest}
    tags = [record["tag"] for record in running.device_audit(DEVICE)]
    assert "agent:assignment:refused" not in tags


@pytest.mark.timeout(900)
def test_t22_a_device_whose_plans_a_thief_drove_up_follows_the_rotated_key(
    running: Fleet,
) -> None:
    agent = running.agents[DEVICE]
    ran, before = ask(agent)[1], refusals(agent)
    with answered_all_along(agent):
        with stolen(running.controller, running.folder) as thief:
            thief.director.version = thief.version = FAST_FORWARD
            (released,) = (
                one for one in thief.loot.manifests.values() if running.digests[one.release] == ran
            )
            thief.order(DEVICE, released, "driven-up")
            assert thief.outcome("driven-up").state == "SUCCEEDED"
        running.controller.start()
        running.push("4.0.0", "This is release 4.0.0.")
        stuck = running.start_rollout("4.0.0", [DEVICE])
        wait_for("the device to refuse what is true", lambda: refusals(agent) > before)
        assert ask(agent)[1] == ran
        rotate(running, DIRECTOR, "--emergency", "fast-forward")
        assert running.wait_finished(stuck)[DEVICE]["state"] == "SUCCEEDED"
    assert ask(agent)[1] == running.digests["4.0.0"]
