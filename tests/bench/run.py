"""`make bench [ONLY=area]`: one JSON line a figure, `{name, value, unit, bound, ok}`.

A bound is an upper one unless `at_least` says otherwise. Where a figure depends on the machine it
is a ratio against something measured in the same run. Exit status 1 if a bound was missed.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

# The module of each area.
AREAS = {
    "spine": "spine",
    "trust": "trust",
    "inference": "inference",
    "memory": "memory",
    "rates": "fit_rates",
    "world": "world",
    "why": "why",
    "groups": "groups",
    "access": "access",
    "accounts": "accounts",
    "replicas": "replicas",
    "audit": "audit_export",
}


def main(wanted: list[str]) -> int:
    """Run the areas and print their figures; return the exit status."""
    here = Path(__file__).resolve().parent
    deploy = here.parents[1] / "deploy"
    sys.path[:0] = [str(here), str(here.parent), str(deploy), str(deploy / "demo")]
    unknown = [area for area in wanted if area not in AREAS]
    if unknown:
        print(f"bench: there is no area {unknown[0]!r}; there are: {', '.join(AREAS)}")
        return 64
    missed = False
    for area in wanted or AREAS:
        for figure in importlib.import_module(AREAS[area]).figures():
            missed |= not figure.ok
            print(json.dumps(figure.line()), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
