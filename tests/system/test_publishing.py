"""From a model folder to a release on a real controller; pushes are killed, and meet."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import BIN, Answer
from simulators import hf_models
from simulators.fleet import Fleet

QUICK = ("--evaluation-tokens", "255", "--no-rates")


@pytest.fixture(scope="module")
def folder(fleet: Fleet) -> Path:
    return hf_models.write(fleet.folder / "tiny-llama", "llama")


def words(
    fleet: Fleet, folder: Path, release: str, *options: str, model: str = "tiny"
) -> list[str]:
    key = str(fleet.folder / "publisher.pem")
    named = ("--name", model, "--release", release, "--key", key)
    return ["models", "push", str(folder), *named, *options, "-o", "json"]


def test_a_folder_is_converted_judged_and_published(fleet: Fleet, folder: Path) -> None:
    options = ("--variants", "f16,q8_0,q4_0", "--max-quality-loss", "50%", "--aim", "smallest")
    picture = fleet.folder / "picture.svg"
    pushed = fleet.sprat(
        *words(fleet, folder, "1.0.0", *options, *QUICK, "--picture", str(picture))
    )
    assert pushed["is_published"]
    assert picture.read_text().startswith("<svg")
    shown = fleet.sprat("models", "show", "tiny@1.0.0", "-o", "json")
    manifests = {one["variant"]: one["manifest"] for one in shown["variants"]}
    losses = {name: one["evaluation"]["loss_ppm"] for name, one in manifests.items()}
    assert 0 == losses["f16"] <= losses["q8_0"] < losses["q4_0"]
    assert {one["policy"].get("aim") for one in manifests.values()} == {"smallest"}
    assert {one["facts"]["architecture"] for one in manifests.values()} == {"llama"}
    assert {one["facts"]["licence"] for one in manifests.values()} == {"apache-2.0"}
    lines = fleet.controller.sprat("models", "show", "tiny@1.0.0", "-o", "tsv").output.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["f16", "q4_0", "q8_0"]


def test_a_release_that_is_there_is_told_before_the_work(fleet: Fleet, folder: Path) -> None:
    answer = fleet.controller.sprat(*words(fleet, folder, "1.0.0"), check=False)
    assert answer.status == 5
    assert answer.errors.startswith("sprat: tiny@1.0.0 is published already")


def test_a_push_that_is_killed_publishes_nothing_and_goes_on_when_run_again(
    fleet: Fleet, folder: Path
) -> None:
    command = words(
        fleet, folder, "1.0.0", "--variants", "q8_0,q5_1,q4_0", "--no-evaluation", model="killed"
    )
    process = subprocess.Popen(
        [BIN / "sprat", *command],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | fleet.controller.cli_environment(),
    )
    with process:
        for line in process.stderr or ():
            if line.startswith("uploading"):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    answer = fleet.controller.sprat("models", "show", "killed", check=False)
    assert answer.status == 1, answer
    pushed = fleet.sprat(*command)
    assert (pushed["counter"], len(pushed["variants"])) == (1, 3)


def at_once(fleet: Fleet, commands: Sequence[Sequence[str]]) -> list[Answer]:
    def run(command: Sequence[str]) -> Answer:
        return fleet.controller.sprat(*command, check=False)

    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(run, commands))


def test_publishers_that_meet_both_get_their_turn(fleet: Fleet, folder: Path) -> None:
    options = ("--variants", "q4_0", "--no-evaluation")
    commands = [
        words(fleet, folder, release, *options, model=model)
        for model, release in (("met", "1.0.0"), ("met", "1.1.0"), ("other", "1.0.0"))
    ]
    answers = at_once(fleet, commands)
    assert [one.status for one in answers] == [0, 0, 0], answers
    assert sorted(one.json["counter"] for one in answers[:2]) == [1, 2]
    releases: list[dict[str, Any]] = fleet.sprat("models", "show", "met", "-o", "json")["releases"]
    assert {one["release"] for one in releases} == {"1.0.0", "1.1.0"}


def test_one_of_two_that_publish_the_same_release_wins(fleet: Fleet, folder: Path) -> None:
    commands = [
        words(fleet, folder, "1.0.0", "--variants", kind, "--no-evaluation", model="same")
        for kind in ("q4_0", "q8_0")
    ]
    answers = at_once(fleet, commands)
    assert sorted(one.status for one in answers) == [0, 5], answers
    loser = next(one for one in answers if one.status)
    assert "is published already" in loser.errors.splitlines()[-1]
    shown = fleet.sprat("models", "show", "same@1.0.0", "-o", "json")
    winner = next(one for one in answers if not one.status)
    published = [[one["digest"] for one in of["variants"]] for of in (shown, winner.json)]
    assert published[0] == published[1]
