"""Starting a child that carries out one order, and telling in one sentence how it failed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import msgspec

from sprat_controller.publisher import native
from sprat_controller.publisher.evaluate.orders import (
    Answer,
    Asked,
    Order,
    Progress,
    Rated,
    Refused,
    Scored,
)

COMMAND: Final = (sys.executable, "-P", "-m", "sprat_controller.publisher.evaluate.child")

Result = TypeVar("Result", Scored, Rated, Asked)
Done: TypeAlias = Callable[[int, int], None]  # how much is done, and how much there is


class ChildError(Exception):
    """A child refused, failed or crashed; one sentence."""


def carry_out(order: Order, answer: type[Result], done: Done) -> Result:
    """Carry an order out in a child and return its answer, of the given type.

    Raises:
        ChildError: It refused, failed or crashed.
    """
    results: list[Answer] = []

    def told(line: bytes) -> None:
        said = msgspec.json.decode(line, type=Answer)
        if isinstance(said, Progress):
            done(said.done, said.total)
        else:
            results.append(said)

    command = [*COMMAND, msgspec.json.encode(order).decode()]
    ended = native.run(command, told, Path(order.folder))
    for result in results:
        if isinstance(result, answer) and ended.status == 0:
            return result
        if isinstance(result, Refused):
            raise ChildError(result.reason)
    raise ChildError(f"llama.cpp could not evaluate {Path(order.model).name}: {ended.reason}")
