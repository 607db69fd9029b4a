"""The `sprat` command in this process, against `simulators.operator_api`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sprat_controller.cli.main import app
from sprat_controller.cli.verbs import Surroundings
from typer.testing import CliRunner

from simulators.operator_api import OperatorApi

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class Said:
    """What one call of `sprat` said."""

    status: int
    output: str
    errors: str
    exception: BaseException | None

    @property
    def json(self) -> Any:
        """The output as JSON."""
        return json.loads(self.output)

    @property
    def lines(self) -> list[list[str]]:
        """The output's lines, split at tabs."""
        return [line.split("\t") for line in self.output.splitlines()]

    def assert_one_sentence(self, status: int) -> None:
        """Hold that the call failed as every failure must."""
        assert self.status == status, self
        assert self.output == ""
        assert self.errors.startswith("sprat: "), self.errors
        assert len(self.errors.strip().splitlines()) == 1, self.errors
        assert "Traceback" not in self.errors
        assert "this is a bug" not in self.errors
        assert isinstance(self.exception, SystemExit)


@dataclass
class Sprat:
    """The `sprat` command against the API in memory, with a clock that sleeping moves."""

    api: OperatorApi
    environ: dict[str, str]
    now: datetime = NOW
    on_sleep: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def __call__(self, *arguments: str, stdin: str | None = None) -> Said:
        """Run one call."""
        around = Surroundings(
            transport=self.api.transport,
            environ=self.environ,
            clock=lambda: self.now,
            sleep=self._sleep,
        )
        done = CliRunner().invoke(app, list(arguments), input=stdin, obj=around, prog_name="sprat")
        return Said(done.exit_code, done.stdout, done.stderr, done.exception)

    def _sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        if self.on_sleep:
            self.on_sleep.pop(0)()
