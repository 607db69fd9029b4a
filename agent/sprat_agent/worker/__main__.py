"""A worker with llama.cpp: `python -m sprat_agent.worker DESCRIPTOR PARENT`."""

from __future__ import annotations

import os

from sprat_agent.worker import serve
from sprat_agent.worker.engine import Engine


def _llama_engine() -> Engine:
    # numpy's threads would be there before the jail, and nothing here computes with numpy's BLAS.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # Here: the worker ties its life to the agent's before it spends time on these imports.
    from sprat_agent.worker.batching.scheduler import Scheduler  # noqa: PLC0415
    from sprat_agent.worker.llama import LlamaBackend  # noqa: PLC0415

    return Scheduler(LlamaBackend())


if __name__ == "__main__":
    serve.run(_llama_engine)
