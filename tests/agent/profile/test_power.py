"""Mains or battery, by what the kernel says of supplies."""

from __future__ import annotations

from pathlib import Path

import pytest
from sprat_agent.profile import power

AC = {"type": "Mains", "online": "1"}
AC_OUT = {"type": "Mains", "online": "0"}
EMPTYING = {"type": "Battery", "status": "Discharging"}
FILLING = {"type": "Battery", "status": "Charging"}
OF_A_MOUSE = {"type": "Battery", "status": "Discharging", "scope": "Device"}


@pytest.mark.parametrize(
    ("supplies", "source"),
    [
        ([], ""),
        ([AC], "mains"),
        ([AC, EMPTYING], "mains"),
        ([AC_OUT, EMPTYING], "battery"),
        ([AC_OUT], ""),
        ([FILLING], "mains"),
        ([OF_A_MOUSE], ""),
        ([{"type": "Battery", "status": "Unknown"}], ""),
    ],
)
def test_the_source_is_what_feeds_the_device(
    tmp_path: Path, supplies: list[dict[str, str]], source: str
) -> None:
    for number, supply in enumerate(supplies):
        folder = tmp_path / f"sys/class/power_supply/s{number}"
        folder.mkdir(parents=True)
        for name, text in supply.items():
            (folder / name).write_text(f"{text}\n")
    assert power.source(tmp_path) == source
