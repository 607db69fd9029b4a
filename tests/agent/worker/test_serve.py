"""The real worker process with llama.cpp: it loads by descriptor and dies with the agent."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from simulators import models
from simulators.waiting import until
from simulators.workbench import PLENTY, QUICK, CountedCrashes, say
from sprat_agent.runtime import faults
from sprat_agent.runtime.supervisor import Supervisor
from sprat_agent.runtime.wire import Conversation, Message, Request, Sampling
from sprat_agent.sync.ports import Loadable
from sprat_proto.manifest import Activation, GoldenPrompt

AGENT = """
import asyncio, pickle, sys
from pathlib import Path
from sprat_agent.runtime.supervisor import Supervisor

class NoCrashes:
    def note(self, digest): return 0
    def count(self, digest): return 0

async def main():
    loadable = pickle.loads(Path(sys.argv[1]).read_bytes())
    supervisor = Supervisor(1 << 30, Path(sys.argv[2]), lambda *_: None, crashes=NoCrashes())
    await supervisor.load_committed(loadable)
    print(supervisor.statuses()[0].worker_pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def ignore(tag: str, subject: str, details: Mapping[str, object]) -> None:
    """Nobody audits here."""
    assert tag, (subject, details)


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    made = Supervisor(
        PLENTY, tmp_path / "run", ignore, crashes=CountedCrashes(), threads=1, limits=QUICK
    )
    yield made
    await made.close()


async def answer(supervisor: Supervisor, chat: Request) -> str:
    async with supervisor.answering("assistant", chat) as made:
        return "".join([piece.text async for piece in made])


async def test_llama_cpp_answers_and_is_probed_with_what_it_answered(
    supervisor: Supervisor, one: Loadable, two: Loadable
) -> None:
    await supervisor.load_committed(one)
    chat = short("Hello")
    text = await answer(supervisor, chat)
    golden = GoldenPrompt("Hello", text, "equals", max_tokens=8)
    await supervisor.load_candidate(two)
    probed = await supervisor.probe("assistant", Activation(probe=[golden]), 0)
    assert probed.fault is None
    await supervisor.promote("assistant")
    assert await answer(supervisor, chat) == text


async def test_a_split_model_is_loaded_through_its_descriptors(
    supervisor: Supervisor, one: Loadable, tmp_path: Path
) -> None:
    files = models.write_model(tmp_path / "split.gguf", models.Shape(shards=3))
    assert len(files) == 3
    await supervisor.load_committed(models.loadable(files, known=one.facts))
    chat = short("Hello")
    split = await answer(supervisor, chat)
    await supervisor.load_committed(replace(one, release="3.0.0", digest="c" * 64))
    assert await answer(supervisor, chat) == split


async def test_the_worker_goes_on_with_the_file_it_hashed(
    supervisor: Supervisor, model_files: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(model_files[0].read_bytes())
    await supervisor.load_committed(models.loadable([path]))
    before = await answer(supervisor, short("Hello"))
    path.unlink()
    assert await answer(supervisor, short("Hello")) == before


async def test_a_worker_runs_where_nothing_is_and_with_nothing_of_ours(
    supervisor: Supervisor, one: Loadable
) -> None:
    await supervisor.load_committed(one)
    pid = supervisor.statuses()[0].worker_pid
    assert pid is not None
    process = Path(f"/proc/{pid}")
    assert str((process / "cwd").readlink()).endswith(" (deleted)")
    links = [str(link.readlink()) for link in (process / "fd").iterdir()]
    assert len([link for link in links if link.startswith("socket:")]) == 1
    assert os.getpgid(pid) == pid
    assert "NoNewPrivs:\t1" in (process / "status").read_text()
    assert (process / "oom_score_adj").read_text() == "800\n"


async def test_too_long_messages_are_refused_by_the_model(
    supervisor: Supervisor, one: Loadable
) -> None:
    await supervisor.load_committed(one)
    with pytest.raises(faults.RequestRefusedError, match="context is 256 tokens"):
        await answer(supervisor, say("x" * 400))


async def test_no_worker_outlives_an_agent_that_was_killed(one: Loadable, tmp_path: Path) -> None:
    (tmp_path / "loadable").write_bytes(pickle.dumps(one))
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", AGENT, tmp_path / "loadable", tmp_path / "run"),
        stdout=subprocess.PIPE,
    )
    assert agent.stdout is not None
    pid = int(await agent.stdout.readline())
    assert is_there(pid)
    agent.send_signal(signal.SIGKILL)
    await agent.wait()
    await until(lambda: not is_there(pid))


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def short(text: str) -> Request:
    return Request(
        Conversation((Message("user", text),)),
        sampling=Sampling(temperature=0),
        max_tokens=8,
        is_fresh=True,
    )


FAILING = """
import threading
from sprat_agent.worker import serve

def engine():
    threading.Thread(target=lambda: 1 / 0).start()
    threading.Event().wait()

serve.run(engine)
"""


def test_a_worker_ends_when_a_thread_of_its_engine_fails() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-P", "-c", FAILING, str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
            capture_output=True,
            check=False,
            timeout=30,
        )
    assert done.returncode == 1
    assert b"ZeroDivisionError" in done.stderr
