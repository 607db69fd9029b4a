from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from simulators.operator_api import CREATED, OperatorApi
from simulators.sprat_command import Sprat

FILE = """schema: 1
rollouts:
  lyon:
    release: talk@1.0.0
    alias: assistant
    labels:
      site: lyon
devices:
  cam-1:
    site: oslo
    ring: canary
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(FILE)
    return path


def standing(**said: Any) -> dict[str, Any]:
    """Return a rollout as the API answers it."""
    return {
        "id": "r-1",
        "name": "fleet:lyon",
        "model": "talk",
        "release": "1.0.0",
        "alias": "assistant",
        "target": {"labels": {"site": "lyon"}, "devices": []},
        "context": 2048,
        "slots": 0,
        "kv_type": "f16",
        "pinned": False,
        "policy": None,
        "state": "RUNNING",
        "created_at": CREATED,
        **said,
    }


def test_a_plan_ends_with_2_if_it_would_change_something(sprat: Sprat, file: Path) -> None:
    said = sprat("plan", str(file))
    assert said.status == 2
    assert ["+", "rollout lyon", "release: talk@1.0.0"] in said.lines
    assert ["~", "device cam-1", "+ ring=canary"] in said.lines
    assert "1 to add, 1 to change, 0 to stop" in said.errors
    asked = [path for method, path in sprat.api.calls if method != "GET"]
    assert asked == ["/api/v1/rollouts/plan"]


def test_applying_asks_and_then_does_it_once(sprat: Sprat, api: OperatorApi, file: Path) -> None:
    asked = sprat("apply", str(file))
    assert asked.status == 64
    assert "Make 2 changes?" in asked.errors
    done = sprat("apply", str(file), "--yes")
    assert done.status == 0, done
    assert api.devices["cam-1"]["labels"] == {"site": "oslo", "ring": "canary"}
    created = next(body for body in api.bodies if "name" in body)
    assert (created["name"], created["labels"]) == ("fleet:lyon", {"site": "lyon"})
    assert ("POST", "/api/v1/rollouts") in api.calls
    # Labels first: they say who is in the target.
    assert api.calls[-3:] == [
        ("PATCH", "/api/v1/devices/cam-1"),
        ("POST", "/api/v1/rollouts"),
        ("POST", "/api/v1/rollouts/r-1/start"),
    ]


def test_what_stands_is_no_change(sprat: Sprat, api: OperatorApi, file: Path) -> None:
    api.lists["rollouts"].append(standing())
    api.devices["cam-1"]["labels"] = {"site": "oslo", "ring": "canary"}
    said = sprat("plan", str(file))
    assert (said.status, said.output) == (0, "")
    assert "nothing to change" in said.errors
    assert sprat("apply", str(file)).status == 0


def test_what_another_controller_answers_is_one_sentence(
    sprat: Sprat, api: OperatorApi, file: Path
) -> None:
    api.lists["rollouts"].append(standing(state="DANCING"))
    sprat("plan", str(file)).assert_one_sentence(1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("schema: 2\n", "schema"),
        ("schema: 1\nrollout: {}\n", "did you mean 'rollouts'?"),
        (FILE.replace("talk@1.0.0", "talk"), "rollouts.lyon.release: expected MODEL@RELEASE"),
        (
            FILE.replace("talk@1.0.0", "tlak@1.0.0"),
            "rollouts.lyon.release: expected a release that",
        ),
        (
            FILE.replace("talk@1.0.0", "talk@9.0.0"),
            "was published, found talk@9.0.0: push it first",
        ),
        (FILE.replace("cam-1", "Not A Device"), "expected a device name"),
        (
            FILE.replace("labels:\n      site: lyon", "devices: [gone-1]"),
            "rollouts.lyon: there is no device",
        ),
        (
            FILE.replace("alias: assistant", "alias: assistant\n    strategy: {}").replace(
                "strategy: {}", "strategy:\n      groups:\n      - devices: 1"
            ),
            "expected the last group to take all that is left",
        ),
    ],
)
def test_a_file_that_is_wrong_is_told_in_one_sentence(
    sprat: Sprat, file: Path, text: str, sentence: str
) -> None:
    file.write_text(text)
    said = sprat("plan", str(file))
    said.assert_one_sentence(64)
    assert sentence in said.errors


def test_a_target_with_nobody_in_it_is_refused_unless_labels_come_first(
    sprat: Sprat, api: OperatorApi, file: Path
) -> None:
    api.devices.clear()
    file.write_text(FILE.partition("devices:")[0])
    said = sprat("plan", str(file))
    said.assert_one_sentence(64)
    assert "rollouts.lyon: expected a target with at least one device in it" in said.errors
    assert sprat("apply", str(file), "--yes").status == 64
    assert not api.lists["rollouts"]


def test_a_stop_names_the_revision_that_was_read(
    sprat: Sprat, api: OperatorApi, file: Path
) -> None:
    api.lists["rollouts"].append(standing(revision=7))
    file.write_text("schema: 1\n")
    assert sprat("apply", str(file), "--yes").status == 0
    assert ("POST", "/api/v1/rollouts/r-1/stop") in api.calls
    assert api.bodies == [{"expected_revision": 7}]
    api.lists["rollouts"][:] = [standing(state="READY", revision=3)]
    file.write_text(FILE.partition("devices:")[0])
    assert sprat("apply", str(file), "--yes").status == 0
    assert api.bodies[-1] == {"expected_revision": 3}
