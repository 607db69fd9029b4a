"""What the agent's own process costs and never loads."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import uvicorn.protocols.http.h11_impl
import sprat_agent.api.app, sprat_agent.api.server, sprat_agent.profile.probe
import sprat_agent.runtime.supervisor
foreign = {"llama_cpp", "numpy", "gguf", "pydantic", "sqlalchemy", "httpx", "grpc"}
print(sorted(foreign & set(sys.modules)))
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")][0])
"""
LIMIT_KIB = 40 * 1024  # of the 64 MiB that the whole agent may take with its link up


def test_api_and_runtime_are_small_and_load_no_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    foreign, resident_kib = done.stdout.split("\n")[:2]
    assert foreign == "[]"
    assert int(resident_kib) < LIMIT_KIB
