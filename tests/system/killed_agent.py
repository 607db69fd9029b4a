"""An agent that kills itself: `killed_agent.py PHASE MOMENT run ...` is `sprat-agent run ...` that
gets SIGKILL right after PHASE is persisted (MOMENT `entered`) or right after its effect, before
its completion is persisted (MOMENT `done`).
"""

from __future__ import annotations

import os
import signal
import sys

from sprat_agent import main as agent_main


def main() -> int:
    phase, moment, *arguments = sys.argv[1:]

    def on_transition(_execution_id: str, at_phase: str, at_moment: str) -> None:
        if (at_phase, at_moment) == (phase, moment):
            os.kill(os.getpid(), signal.SIGKILL)

    return agent_main.main(arguments, on_transition=on_transition)


if __name__ == "__main__":
    sys.exit(main())
