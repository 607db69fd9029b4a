"""`sprat plan` and `sprat apply` against the real API over a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from simulators.api_fleet import enrol, publish
from simulators.http_world import HttpWorld
from simulators.in_process import InProcess
from simulators.sprat_command import Said
from sprat_controller.access.policy import Role
from sprat_controller.cli.main import app
from sprat_controller.cli.verbs import Surroundings
from typer.testing import CliRunner

FLEET = """schema: 1
rollouts:
  lyon:
    alias: assistant
    channel: talk@stable
    labels:
      site: lyon
devices:
  gw-2:
    site: oslo
"""


@dataclass
class Place:
    """A controller with two devices and a release, and a file about them."""

    world: HttpWorld
    file: Path

    def sprat(self, *arguments: str, role: Role = Role.OPERATOR) -> Said:
        """Run one call of `sprat`."""
        environ = {
            "SPRAT_URL": "https://ctl.example:7770",
            "SPRAT_TOKEN": self.world.tokens[role],
            "HOME": str(self.file.parent),
        }
        around = Surroundings(
            transport=InProcess(self.world.app), environ=environ, clock=lambda: self.world.now
        )
        done = CliRunner().invoke(app, list(arguments), obj=around, prog_name="sprat")
        return Said(done.exit_code, done.stdout, done.stderr, done.exception)

    def put(self, release: str) -> None:
        """Put a release in the channel."""
        done = self.sprat("channels", "put", f"talk@{release}", "stable", role=Role.ADMIN)
        assert done.status == 0, done


@pytest.fixture
def place(tmp_path: Path) -> Generator[Place]:
    world = HttpWorld(tmp_path)

    async def fill() -> None:
        await enrol(world, "gw-1", site="lyon")
        await enrol(world, "gw-2", site="lyon")
        await publish(world, tmp_path)

    asyncio.run(fill())
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET)
    made = Place(world, file)
    made.put("1.0.0")
    yield made
    world.close()


def rollouts(place: Place) -> list[str]:
    """Return the state of each rollout with its name, newest first."""
    return [f"{one.name} {one.state}" for one in place.world.parts.rollouts.list()]


def test_a_file_is_planned_applied_and_then_changes_nothing(place: Place) -> None:
    planned = place.sprat("plan", str(place.file))
    assert planned.status == 2, planned
    assert ["+", "rollout lyon", "release: talk@1.0.0"] in planned.lines
    assert ["~", "device gw-2", "~ site=lyon -> oslo"] in planned.lines
    assert rollouts(place) == []

    assert place.sprat("apply", str(place.file), "--yes").status == 0
    assert rollouts(place) == ["fleet:lyon STARTING"]
    started = place.world.parts.rollouts.list()[0].id
    for verb in (["plan"], ["apply", "--yes"], ["plan"]):
        again = place.sprat(*verb, str(place.file))
        assert (again.status, again.output) == (0, ""), again
    assert [one.id for one in place.world.parts.rollouts.list()] == [started]


def test_what_differs_is_rolled_out_anew_and_what_is_left_out_is_stopped(place: Place) -> None:
    assert place.sprat("apply", str(place.file), "--yes").status == 0
    place.file.write_text(FLEET.replace("alias: assistant", "alias: assistant\n    context: 512"))
    place.world.later(minutes=1)
    planned = place.sprat("plan", str(place.file))
    assert planned.status == 2
    assert ["~", "rollout lyon", "context: 2048 -> 512"] in planned.lines
    assert place.sprat("apply", str(place.file), "--yes").status == 0
    assert rollouts(place) == ["fleet:lyon STARTING", "fleet:lyon STOPPING"]
    assert place.sprat("plan", str(place.file)).status == 0

    place.file.write_text("schema: 1\n")
    planned = place.sprat("plan", str(place.file))
    assert planned.status == 2
    assert [line[:2] for line in planned.lines] == [["-", "rollout lyon"]]
    assert place.sprat("apply", str(place.file), "--yes").status == 0
    assert rollouts(place) == ["fleet:lyon STOPPING", "fleet:lyon STOPPING"]
    assert place.sprat("plan", str(place.file)).status == 0


def test_a_strategy_in_the_file_is_the_strategy_of_the_rollout(place: Place) -> None:
    steps = """
    strategy:
      groups:
      - {name: canary, devices: 1, soak_s: 600}
      - {}
"""
    file = FLEET.replace("\ndevices:", steps + "devices:")
    place.file.write_text(file)
    planned = place.sprat("plan", str(place.file))
    said = "strategy: groups canary: 1 device, the rest; group 0: soaks 10 min"
    assert ["+", "rollout lyon", said] in planned.lines
    assert place.sprat("apply", str(place.file), "--yes").status == 0
    (made,) = place.world.parts.rollouts.list()
    # Labels are set first: gw-2 is at another site by then.
    assert [one.devices for one in made.groups] == [1, 0]
    assert place.sprat("plan", str(place.file)).status == 0

    place.world.later(minutes=1)
    place.file.write_text(file.replace("soak_s: 600", "soak_s: 60"))
    planned = place.sprat("plan", str(place.file))
    assert [line[2] for line in planned.lines] == [
        f"{said} -> {said.removeprefix('strategy: ').replace('10 min', '1 min')}"
    ]
    assert place.sprat("apply", str(place.file), "--yes").status == 0
    assert place.sprat("plan", str(place.file)).status == 0


def test_other_rollouts_do_not_hide_those_of_the_file(place: Place) -> None:
    assert place.sprat("apply", str(place.file), "--yes").status == 0
    for number in range(3):
        place.world.later(minutes=1)
        other = ("rollout", "start", "talk@1.0.0", "--alias", f"other-{number}", "--yes")
        assert place.sprat(*other).status == 0
    listed = place.world.parts.rollouts.list(1, "fleet:")
    assert [one.name for one in listed] == ["fleet:lyon"]
    assert place.world.parts.rollouts.list(9, "fleet%") == ()
    assert place.sprat("plan", str(place.file)).status == 0


def test_what_a_person_stopped_is_not_started_again_by_the_file(place: Place) -> None:
    assert place.sprat("apply", str(place.file), "--yes").status == 0
    started = place.world.parts.rollouts.list()[0].id
    assert place.sprat("rollout", "stop", started, "--yes").status == 0
    planned = place.sprat("plan", str(place.file))
    assert planned.status == 0
    assert [line[:2] for line in planned.lines] == [["!", "rollout lyon"]]
    assert place.sprat("apply", str(place.file), "--yes").status == 0
    assert rollouts(place) == ["fleet:lyon STOPPING"]


def test_who_may_not_roll_out_may_plan_and_is_told(place: Place) -> None:
    assert place.sprat("plan", str(place.file), role=Role.VIEWER).status == 2
    refused = place.sprat("apply", str(place.file), "--yes", role=Role.VIEWER)
    assert refused.status == 4
    assert "after 0 of 2 changes: " in refused.errors
    assert rollouts(place) == []
