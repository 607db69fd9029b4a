"""`make demo`: the whole product in about a minute, on this machine, with nothing else.

`--headless` prints JSON lines, ends everything at the end and exits non-zero if any step failed.
Without it the processes go on until Ctrl-C, so that you can try your own commands.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from processes import ProcessError
from reporter import Headless, Reporter, Terminal
from story import ALIAS, MODEL, Stage, StepFailedError, stage, tell


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description="Show the whole product on this machine.")
    parser.add_argument("--headless", action="store_true", help="JSON lines, no pause at the end")
    headless = parser.parse_args().headless
    reporter: Reporter = Headless() if headless else Terminal()
    signal.signal(signal.SIGTERM, _stop)
    folder = Path(tempfile.mkdtemp(prefix="sprat-demo-"))
    try:
        with stage(folder, reporter) as on:
            tell(on)
            finish(on, headless=headless)
    except (StepFailedError, ProcessError) as error:
        reporter.result("demo", ok=False, facts={"error": str(error), "logs": str(folder)})
        return 1
    except KeyboardInterrupt:
        reporter.say("\nStopping.")
    except SystemExit:  # told to end by `_stop`
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _stop(_signal: int, _frame: object) -> None:
    """Let `finally` end the processes when the demo itself is told to end."""
    sys.exit(1)


def finish(on: Stage, *, headless: bool) -> None:
    """Give the addresses and a few commands to try, and wait for Ctrl-C."""
    environment = on.controller.cli_environment()
    agents = {agent.device_id: agent.url for agent in on.agents.values()}
    on.reporter.result("demo", ok=True, facts={"controller": on.controller.url, "agents": agents})
    if headless:
        return
    gateway = on.agents["gateway-1"]
    exports = " ".join(f"{name}={value}" for name, value in environment.items())
    on.reporter.chapter("Still running: try it")
    on.reporter.say(f"Controller  {on.controller.url}/docs")
    for device_id, url in agents.items():
        on.reporter.say(f"{device_id:<11} {url}/v1 and {on.agents[device_id].socket}")
    on.reporter.show(f"\nexport {exports}")
    on.reporter.show(f".venv/bin/sprat rollout plan {MODEL}@1.1.0 --alias {ALIAS}")
    on.reporter.show(".venv/bin/sprat audit list")
    on.reporter.show(".venv/bin/sprat report eu-ai-act --out report")
    on.reporter.show(
        f"curl {gateway.url}/v1/chat/completions -H 'content-type: application/json'"
        f' -d \'{{"model": "{ALIAS}", "messages": [{{"role": "user", "content": "Hello"}}]}}\''
    )
    on.reporter.say("\nCtrl-C ends everything and leaves nothing behind.")
    signal.pause()


if __name__ == "__main__":
    sys.exit(main())
