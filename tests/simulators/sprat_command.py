"""The `sprat` command in this process, against `simulators.operator_api`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from sprat_controller.cli.main import app
from sprat_controller.cli.verbs import Surroundings
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from simulators.operator_api import OperatorApi

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@cache
def _command() -> TyperGroup:
    """Return the verbs, put together once: that takes longer than a call does."""
    made = get_command(app)
    assert isinstance(made, TyperGroup)
    return made


def _ended(call: Callable[[], object]) -> SystemExit:
    """Return how a call ended the process."""
    with pytest.raises(SystemExit) as ended:
        call()
    return ended.value


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
        with CliRunner().isolation(input=stdin) as (output, errors, _):
            ended = _ended(lambda: _command().main(list(arguments), prog_name="sprat", obj=around))
            sys.stdout.flush()
            sys.stderr.flush()
            said, said_wrong = (one.getvalue().decode() for one in (output, errors))
        return Said(int(ended.code or 0), said, said_wrong, ended if ended.code else None)

    def _sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        if self.on_sleep:
            self.on_sleep.pop(0)()
