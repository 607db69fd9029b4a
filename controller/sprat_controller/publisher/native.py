"""Running native code in a child process: what it prints, and how it ended, in one sentence."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

_TAIL: Final = 4096  # bytes of what a child complained of last


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit status, below 0 a signal's number, and its last complaint."""

    status: int
    complaint: str

    @property
    def reason(self) -> str:
        """Why it failed, as the end of a sentence."""
        if self.status == -signal.SIGKILL:
            return f"it was ended by signal {-self.status}, as happens when memory runs out"
        if self.status < 0:
            return f"it crashed with signal {-self.status}"
        return self.complaint or "it gave no reason"


def run(command: Sequence[str], told: Callable[[bytes], None], folder: Path) -> Ended:
    """Run a command to its end, telling each line that it prints.

    Args:
        command: The program and its arguments.
        told: Told each line of its standard output. What it raises ends the child.
        folder: Where it is started: llama.cpp loads libraries that it finds there.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
        )
        with process:
            try:
                for line in process.stdout or ():
                    told(line)
            except BaseException:
                process.kill()
                raise
        return Ended(process.returncode, _last_line(complaints))


def _last_line(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, 2) - _TAIL))
    lines = file.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
