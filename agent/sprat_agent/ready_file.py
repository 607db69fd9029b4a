"""`agent.json`: that the agent is ready, and where it listens."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from sprat_agent.errors import StartupError

NAME = "agent.json"


@dataclass(frozen=True)
class Ready:
    """What the file says."""

    pid: int
    http: str  # http://127.0.0.1:PORT
    socket: Path


class ReadyFile:
    """The file in the state folder, there exactly while the agent is ready."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / NAME

    def write(self, http: str, socket: Path) -> None:
        """Say that the agent is ready; the file appears whole."""
        text = json.dumps({"pid": os.getpid(), "http": http, "socket": str(socket)})
        temporary = self._path.with_suffix(".new")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(self._path)

    def remove(self) -> None:
        """Say that it is not."""
        self._path.unlink(missing_ok=True)

    def read(self) -> Ready:
        """Return what the running agent wrote.

        Raises:
            StartupError: No agent is running here.
        """
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return Ready(int(found["pid"]), str(found["http"]), Path(found["socket"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StartupError(
                f"no agent is running on {self._path.parent}: start it with `sprat-agent run"
                f" --state {self._path.parent}`"
            ) from error
