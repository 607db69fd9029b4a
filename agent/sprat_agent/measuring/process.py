"""Runs the measuring child; ended at once when the caller is cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from sprat_proto.rates import Measured

from sprat_agent.runtime.process import worker_environment
from sprat_agent.runtime.said import line

COMMAND: Final = (sys.executable, "-P", "-m", "sprat_agent.measuring.child")
BUDGET_S: Final = 6  # after which the types that are rare are left out
PATIENCE_S: Final = 120.0  # a slow device under load; what takes longer says nothing
_LAST_WORDS: Final = 200


class MeasuringError(Exception):
    """The child found nothing: one sentence."""


@dataclass(frozen=True)
class Terms:
    """How to measure."""

    threads: int
    model_bytes: int  # of each of its models
    quota_milli: int = 0  # thousandths of a processor that a control group allows; 0: no limit
    command: Sequence[str] = COMMAND


async def measure(terms: Terms, folder: Path) -> Measured:
    """Return what the child found.

    Args:
        terms: How to measure.
        folder: The child runs in an empty one in it, as ggml loads backends from its working
            directory; named as those of workers, which the next start tidies away.

    Raises:
        MeasuringError: It failed, or took too long.
    """
    with TemporaryDirectory(dir=folder, prefix="worker-") as empty:
        words = (os.getpid(), terms.threads, terms.model_bytes, terms.quota_milli, BUDGET_S)
        process = await asyncio.create_subprocess_exec(
            *terms.command,
            *map(str, words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=empty,
            env=worker_environment(os.environ),
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                out, said = await process.communicate()
        except TimeoutError as error:
            raise MeasuringError(f"measuring took more than {PATIENCE_S:.0f} s") from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    try:
        return msgspec.json.decode(out, type=Measured)
    except msgspec.DecodeError as error:
        last = line(said.decode("utf-8", "replace").strip()[-_LAST_WORDS:]) or "nothing"
        raise MeasuringError(
            f"measuring ended with status {process.returncode} and said: {last}"
        ) from error
