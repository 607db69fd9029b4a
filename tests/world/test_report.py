"""The report and its pictures."""

from __future__ import annotations

import dataclasses
import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from simulators.world.pictures import WIDTH, burn_up, failures
from simulators.world.report import (
    MOST_POINTS,
    GateReport,
    Point,
    Recorder,
    Report,
    duration,
    thinned,
)
from simulators.world.truth import Fallbacks

SVG = "{http://www.w3.org/2000/svg}"


def a_report(reasons: dict[str, int] | None = None) -> Report:
    recorder = Recorder(["canary", "rest"])
    recorder.ended(np.array([0]), np.array([False]), 60_000)
    recorder.ended(np.array([1, 1, 1]), np.array([True, False, False]), 3_600_000)
    recorder.ended(np.full(6, 1), np.zeros(6, np.bool_), 90_000_000)
    return Report(
        replay="python -m simulators.world --seed 7 " + "--a-long-option 1 " * 12 + "--last 2",
        devices=10,
        state="FINISHED",
        virtual_s=90_000,
        wall_s=0.5,
        rounds=12,
        starts=10,
        most_active=6,
        model_downloads=10,
        downloads_back=0,
        states={"SUCCEEDED": 9, "FAILED": 1},
        reasons={"WORKER_CRASHED": 1} if reasons is None else reasons,
        groups=recorder.groups([1, 9]),
    )


def test_the_recorder_counts_by_group_since_the_beginning() -> None:
    canary, rest = a_report().groups
    assert canary.points == (Point(60, 1, 0),)
    assert rest.points == (Point(3_600, 3, 1), Point(90_000, 9, 1))


def test_json_and_text_say_the_same() -> None:
    report = a_report()
    read = json.loads(report.as_json())
    assert read["states"] == {"SUCCEEDED": 9, "FAILED": 1}
    assert read["groups"][1]["points"][-1] == {"at_s": 90_000, "ended": 9, "failed": 1}
    text = report.as_text()
    assert text.startswith("again with: python -m simulators.world --seed 7 ")
    assert "10 devices, rollout FINISHED after 25.0 h of virtual time" in text
    assert "WORKER_CRASHED" in text


@pytest.mark.parametrize("count", [0, 1, MOST_POINTS, MOST_POINTS + 1, 10_000])
def test_thinning_keeps_the_ends_and_the_order(count: int) -> None:
    points = [Point(number, number, 0) for number in range(count)]
    kept = thinned(points)
    assert len(kept) == min(count, MOST_POINTS)
    assert list(kept) == sorted(kept, key=lambda one: one.at_s)
    assert len(set(kept)) == len(kept)
    if points:
        assert (kept[0], kept[-1]) == (points[0], points[-1])


@pytest.mark.parametrize("reasons", [{}, {"A": 1}, {"A" * 40: 5, "<&>": 1}])
def test_pictures_stand_alone_and_keep_within_their_width(reasons: dict[str, int]) -> None:
    for picture in (burn_up(a_report(reasons)), failures(a_report(reasons))):
        root = ET.fromstring(picture)  # noqa: S314 - our own text
        assert root.get("width") == str(WIDTH)
        said = " ".join(one.text or "" for one in root.iter(f"{SVG}text"))
        assert a_report().replay in said
        for one in root.iter(f"{SVG}rect"):
            assert float(one.get("width", "0")) >= 0
            assert float(one.get("x", "0")) + float(one.get("width", "0")) <= WIDTH


def test_a_strip_rises_to_the_share_that_ended() -> None:
    root = ET.fromstring(burn_up(a_report()))  # noqa: S314 - our own text
    strips = [one.attrib for one in root.iter(f"{SVG}rect") if one.get("fill") == "#bbbbbb"][1:]
    # Of the canary all; of the rest 3 of 9, then all.
    assert [float(one["height"]) for one in strips] == pytest.approx([64, 64 * 3 / 9, 64], abs=0.01)
    failed = [one.attrib for one in root.iter(f"{SVG}rect") if one.get("fill") == "black"][1:]
    assert {one["height"] for one in failed} == {"7.11"}
    names = [one.text for one in root.iter(f"{SVG}text")]
    assert {"canary", "rest", "1 device", "9 devices"} <= set(names)


def test_what_is_special_of_a_run_is_in_its_picture_and_its_text() -> None:
    report = dataclasses.replace(
        a_report(),
        groups=Recorder(["canary", "rest"]).groups([1, 9]),
        fallbacks=Fallbacks(5, 3, 1, 2),
        joined=4,
        penalised=6,
        gates=(GateReport("canary", "FAIL", {"class-2": "FAILED"}, "class-2: failed (why)"),),
        windows=((600, 3_600),),
    )
    root = ET.fromstring(burn_up(report))  # noqa: S314 - our own text
    said = [one.text or "" for one in root.iter(f"{SVG}text")]
    assert "gate: FAIL" in said
    assert "gate of canary: FAIL (class-2 FAILED)" in said
    assert "silent fallbacks: 5 happened, 3 noticed, 1 missed, 2 that never happened" in said
    assert {"4 devices joined later", "never began"} <= set(said)
    assert sum(one.get("stroke-dasharray") == "2 2" for one in root.iter(f"{SVG}line")) == 4
    text = report.as_text()
    for words in ("1 missed", "joined later: 4", "6 devices", "class-2: failed (why)"):
        assert words in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (119, "119 s"), (120, "2.0 min"), (90_000, "25.0 h"), (1_209_600, "2.0 w")],
)
def test_durations_are_said_in_a_unit_of_their_size(seconds: float, said: str) -> None:
    assert duration(seconds) == said
