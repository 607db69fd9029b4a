"""Starting a child that carries out one order, and telling in one sentence how it failed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, TypeAlias, TypeVar

import msgspec

from sprat_controller.publisher.evaluate.orders import (
    Answer,
    Order,
    Progress,
    Rated,
    Refused,
    Scored,
)

COMMAND: Final = (sys.executable, "-m", "sprat_controller.publisher.evaluate.child")

Result = TypeVar("Result", Scored, Rated)
Done: TypeAlias = Callable[[int, int], None]  # how much is done, and how much there is


class ChildError(Exception):
    """A child refused, failed or crashed; one sentence."""


def carry_out(order: Order, answer: type[Result], done: Done) -> Result:
    """Carry an order out in a child and return its answer, of the given type.

    Raises:
        ChildError: It refused, failed or crashed.
    """
    command = [*COMMAND, msgspec.json.encode(order).decode()]
    with tempfile.TemporaryFile() as complaints:
        # In the scratch folder: llama.cpp looks for libraries to load where it is started.
        process = subprocess.Popen(
            command, cwd=order.folder, stdout=subprocess.PIPE, stderr=complaints
        )
        with process:
            try:
                last = _listen(process.stdout, done)
            except BaseException:
                process.kill()
                raise
        if isinstance(last, answer) and process.returncode == 0:
            return last
        if isinstance(last, Refused):
            raise ChildError(last.reason)
        complaints.seek(0)
        what = f"llama.cpp could not evaluate {Path(order.model).name}"
        raise ChildError(f"{what}: {_reason(process.returncode, complaints)}")


def _listen(answers: IO[bytes] | None, done: Done) -> Answer | None:
    """Tell progress until the child ends; return its last word."""
    last: Answer | None = None
    for line in answers or ():
        last = msgspec.json.decode(line, type=Answer)
        if isinstance(last, Progress):
            done(last.done, last.total)
    return last


def _reason(status: int, complaints: IO[bytes]) -> str:
    if status == -signal.SIGKILL:
        return f"it was ended by signal {-status}, as happens when memory runs out"
    if status < 0:
        return f"it crashed with signal {-status}"
    lines = complaints.read().decode("utf-8", "replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "it gave no reason"
