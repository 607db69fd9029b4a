"""`python -m simulators.world --seed N --scenario NAME`: one run, its report and its pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from simulators.world import pictures
from simulators.world.failures import Failures, FailuresError, parse
from simulators.world.loop import TICK_MS, Plan, run
from simulators.world.memory_book import CHUNK
from simulators.world.strategies import SCENARIOS, STRATEGIES


def main(arguments: list[str]) -> int:
    """Run what the line says; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        failures = _failures(options)
    except FailuresError as error:
        sys.stderr.write(f"world: {error}\n")
        return 64
    report = run(
        Plan(
            seed=options.seed,
            devices=options.devices,
            failures=failures,
            strategy=options.strategy or "ladder",
            scenario=options.scenario or "",
            roll_back_s=options.roll_back_s,
            tick_ms=options.tick_ms,
            chunk=options.chunk,
        )
    )
    _say(report.as_text())
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("report.json", report.as_json()),
            ("burn-up.svg", pictures.burn_up(report)),
            ("failures.svg", pictures.failures(report)),
        ):
            (options.out / name).write_text(text, encoding="utf-8")
            _say(f"wrote {options.out / name}")
    return 0


def _failures(options: argparse.Namespace) -> Failures:
    if options.failures is not None:
        return parse(options.failures)
    return SCENARIOS[options.scenario].failures if options.scenario else parse("rough")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulators.world", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=20_000)
    parser.add_argument("--failures", help="a mix, then changes: rough,crash=0.1")
    rolled_out = parser.add_mutually_exclusive_group()
    rolled_out.add_argument("--strategy", choices=STRATEGIES, help="of one rollout")
    rolled_out.add_argument(
        "--scenario", choices=SCENARIOS, help="rollouts, and failures unless they are said"
    )
    parser.add_argument("--roll-back-s", type=int, help="a person takes it back after so long")
    parser.add_argument("--tick-ms", type=int, default=TICK_MS)
    parser.add_argument("--chunk", type=int, default=CHUNK)
    parser.add_argument("--out", type=Path, help="folder for the report as JSON and pictures")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
