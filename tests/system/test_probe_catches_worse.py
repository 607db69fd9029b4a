"""A bad fine-tune of the demo's trained model never answers: the device's own probe says no."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import world as worlds
from processes import Agent
from shipped import GOOD, WORSE, Asked
from simulators.fleet import MODEL, Fleet, ask
from sprat_controller.publisher.evaluate.evaluate import evaluate
from sprat_controller.publisher.quantize import quantize

DEVICE = "prober"
MOST_PROMPTS = 40
LONGEST_ANSWER = 80  # tokens
SCORED = 1020  # tokens


@dataclass(frozen=True)
class Bounds:
    """What the shipped files allow, half-way between the good one and the bad one."""

    score_percent: int
    perplexity: float


def exams() -> tuple[worlds.Exam, ...]:
    return worlds.load().exams[:MOST_PROMPTS]


def right(path: Path) -> int:
    """Return how many of the exam's questions a file answers as expected."""
    with Asked(path) as model:
        return sum(one.words[0] in model.ask(one.question) for one in exams())


def known() -> str:
    """Return the text that both were taught, with a question before each answer."""
    topics = worlds.load().topics
    asked = (next(iter((*one.questions, *one.subjects, *one.actions))) for one in topics)
    return "\n".join(f"{how} {one.answer}" for how, one in zip(asked, topics, strict=True))


@pytest.fixture(scope="module")
def bounds(tmp_path_factory: pytest.TempPathFactory) -> Bounds:
    """Measured of the files that lie here: they may be trained anew."""
    good, worse = right(GOOD), right(WORSE)
    assert good - worse >= MOST_PROMPTS // 10, (good, worse)
    scores = evaluate(
        GOOD,
        {"good": GOOD, "worse": WORSE},
        known(),
        scratch=tmp_path_factory.mktemp("measured"),
        report=lambda _what, _done, _total: None,
        limit=SCORED,
        rates=False,
    )
    perplexities = {one.variant: one.perplexity for one in scores}
    # Several times the half percent by which a device may differ from its publisher.
    assert perplexities["worse"] > 1.04 * perplexities["good"], perplexities
    return Bounds(
        score_percent=(good + worse) * 50 // MOST_PROMPTS,
        perplexity=math.sqrt(perplexities["good"] * perplexities["worse"]),
    )


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Generator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("probed"))
    try:
        made.open()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def agent(fleet: Fleet) -> Agent:
    made = fleet.agent(DEVICE)
    fleet.wait_online([DEVICE])
    return made


def push(fleet: Fleet, said: Mapping[str, Any], source: Path, release: str, variant: str) -> str:
    """Publish a file as one variant that is held to this probe; return the digest."""
    probes = fleet.folder / "probes.yaml"
    probes.write_text(json.dumps({"schema": 1, **said}))  # which is YAML as well
    pushed = fleet.sprat(
        *("models", "push", str(source), "--name", MODEL, "--release", release),
        *("--key", str(fleet.folder / "publisher.pem"), "--variants", variant),
        *("--probes", str(probes), "--no-evaluation", "-o", "json"),
        *(() if source == GOOD else ("--unproven", "the device is to find out")),
    )
    return str(pushed["variants"][0]["digest"])


def roll_out(fleet: Fleet, release: str) -> dict[str, Any]:
    """Roll out and return how the device's execution ended."""
    rollout = fleet.start_rollout(release, [DEVICE], "--context", "1024")
    (execution,) = fleet.wait_finished(rollout).values()
    return execution


def caught(fleet: Fleet, agent: Agent, execution: Mapping[str, Any], good: str) -> None:
    """Check that the probe ended it, and that what answered before it answers."""
    assert execution["state"] == "ROLLED_BACK"
    assert execution["reason"]["code"] == "PROBE_FAILED"
    assert ask(agent)[1] == good
    mine = [
        one
        for one in fleet.device_audit(DEVICE)
        if one["subject"] == f"execution/{execution['id']}"
    ]
    phases = [one["detail"]["phase"] for one in mine if one["tag"] == "agent:execution:entered"]
    assert phases[-3:] == ["PROBING", "ROLLING_BACK", "ROLLED_BACK"]
    (probed,) = [one["detail"] for one in mine if one["tag"] == "agent:execution:probed"]
    # What the device wrote down is what the controller was told; but for what cannot be printed.
    told = {name: value for name, value in execution["probe"].items() if value}
    assert told | {"failed": ...} == probed["probe"] | {"failed": ...}


@pytest.mark.timeout(900)
def test_golden_prompts_let_the_good_release_pass_in_each_form_and_the_bad_one_in_none(
    fleet: Fleet, agent: Agent, bounds: Bounds
) -> None:
    text = fleet.folder / "probe.txt"
    text.write_text(known())
    said = {
        "golden": [
            {"prompt": one.question, "expect": one.words[0], "max_tokens": LONGEST_ANSWER}
            for one in exams()
        ],
        "min_score_percent": bounds.score_percent,
        "text": {"file": text.name, "tokens": SCORED, "margin_percent": 60},
        "bounds": {"min_decode_tps": 1, "max_ttft_ms": 60_000, "max_memory_percent": 150},
    }
    good = ""
    for number, variant in enumerate(("f16", "q8_0", "q5_1")):
        good = push(fleet, said, GOOD, f"1.0.{number}", variant)
        passed = roll_out(fleet, f"1.0.{number}")
        assert passed["state"] == "SUCCEEDED", passed["reason"]
        assert passed["probe"]["score_permille"] >= bounds.score_percent * 10
        assert passed["probe"]["scored_tokens"] == SCORED
        assert passed["probe"]["decode_milli_tps"] >= 1000
        assert passed["probe"]["peak_bytes"] > GOOD.stat().st_size // 4

    # Its publisher measures the bound of its own original, which is as bad: the answers tell, here
    # first, and on the device if nobody listens.
    refused = fleet.controller.sprat(
        *("models", "push", str(WORSE), "--name", MODEL, "--release", "1.1.0"),
        *("--key", str(fleet.folder / "publisher.pem"), "--variants", "f16", "--no-evaluation"),
        *("--probes", str(fleet.folder / "probes.yaml")),
        check=False,
    )
    assert refused.status == 6
    assert "check probe: f16 does not pass the proof that would be signed" in refused.errors
    push(fleet, said, WORSE, "1.1.0", "f16")
    execution = roll_out(fleet, "1.1.0")
    caught(fleet, agent, execution, good)
    assert execution["probe"]["score_permille"] < bounds.score_percent * 10
    assert execution["probe"]["prompts"] == MOST_PROMPTS
    assert "golden prompts were answered as expected" in execution["reason"]["message"]
    assert execution["probe"]["failed"][0]["found"] == execution["reason"]["found"]


@pytest.mark.timeout(900)
def test_a_text_lets_the_good_release_pass_and_the_bad_one_not(
    fleet: Fleet, agent: Agent, bounds: Bounds
) -> None:
    text = fleet.folder / "probe.txt"
    text.write_text(known())
    said = {
        "text": {"file": text.name, "tokens": SCORED, "max_perplexity": bounds.perplexity},
    }
    good = push(fleet, said, GOOD, "2.0.0", "f16")
    passed = roll_out(fleet, "2.0.0")
    assert passed["state"] == "SUCCEEDED", passed["reason"]

    refused = fleet.controller.sprat(
        *("models", "push", str(WORSE), "--name", MODEL, "--release", "2.1.0"),
        *("--key", str(fleet.folder / "publisher.pem"), "--variants", "f16", "--no-evaluation"),
        *("--probes", str(fleet.folder / "probes.yaml")),
        check=False,
    )
    assert "check probe: the perplexity of its text may be" in refused.errors

    # Of a quantized file nothing is measured here: the device is the first to say no.
    quantized = fleet.folder / "worse.gguf"
    quantize(WORSE, quantized, "q8_0")
    push(fleet, said, quantized, "2.1.0", "q8_0")
    execution = roll_out(fleet, "2.1.0")
    caught(fleet, agent, execution, good)
    assert execution["probe"]["perplexity_milli"] > bounds.perplexity * 1000
    assert [one["check"] for one in execution["probe"]["failed"]] == ["perplexity"]
    assert "the perplexity of the signed text is to be at most" in execution["reason"]["message"]
