"""Alerts and their documentation speak of metrics that an agent really has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from simulators.scraping import names
from sprat_agent.api.device import DeviceFigures
from sprat_agent.api.exposition import render
from sprat_agent.api.recorder import Recorder

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/sprat-agent.rules.yml"
PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
KNOWN = names(render((), Recorder(), DeviceFigures(1, 0)).decode())


def rules() -> list[dict[str, Any]]:
    read: Any = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


def test_each_alert_is_over_metrics_that_are_there() -> None:
    found = [set(re.findall(r"\bsprat_\w+", rule["expr"])) for rule in rules()]
    assert len(found) >= 6
    assert all(found)
    assert set().union(*found) <= KNOWN


def test_each_alert_has_a_section_that_says_what_to_do() -> None:
    sections = {name.lower() for name in re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)}
    runbooks = {rule["annotations"]["runbook"] for rule in rules()}
    assert runbooks == {f"docs/metrics.md#{name}" for name in sections}
    assert {rule["alert"].lower() for rule in rules()} == sections


def test_the_page_lists_exactly_the_metrics_that_there_are() -> None:
    listed = re.findall(r"^\| `(sprat_\w+)` \|", PAGE, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == KNOWN
