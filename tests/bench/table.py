"""Turn figures into a Markdown table: `make -s bench | .venv/bin/python tests/bench/table.py`.

The spread is that of the pairs or runs, least to most. The machine is named by its own words.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def main() -> None:
    """Read lines from standard input; write the table to standard output."""
    print(machine(Path("/proc/cpuinfo").read_text(encoding="utf-8")))
    print()
    print("\n".join(table(sys.stdin)))


def machine(cpuinfo: str) -> str:
    """Return a sentence that names the machine."""
    names = (
        line.partition(":")[2].strip() for line in cpuinfo.splitlines() if "model name" in line
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = os.cpu_count()
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"Machine: {next(names, platform.machine())}, {cores} cores, {memory:.0f} GiB; {system}."


def table(lines: Iterable[str]) -> Iterator[str]:
    """Yield the rows for lines of figures; other lines are passed over."""
    yield "| figure | median | spread | bound | held |"
    yield "|---|---|---|---|---|"
    for line in lines:
        if line.startswith("{"):
            yield _row(json.loads(line))


def _row(figure: dict[str, Any]) -> str:
    unit = "" if figure["unit"] == "ratio" else f" {figure['unit']}"
    detail = figure.get("detail", {})
    runs = detail.get("pairs") or detail.get("runs")
    spread = f"{min(runs):.3g} to {max(runs):.3g}" if runs else ""
    sign = "≥" if figure.get("at_least") else "≤"
    held = "yes" if figure["ok"] else "**no**"
    name = figure["name"].replace("_", " ")
    value, bound = f"{figure['value']:.3g}{unit}", f"{sign} {figure['bound']}"
    return f"| {name} | {value} | {spread} | {bound} | {held} |"


if __name__ == "__main__":
    main()
