from __future__ import annotations

import asyncio
import os
from pathlib import Path

from sprat_agent.runtime.neighbours import Neighbours, regulate


def tell(proc: Path, *, busy: int, ours: int, idle: int) -> None:
    (proc / "7").mkdir(parents=True, exist_ok=True)
    (proc / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n")
    (proc / "7" / "stat").write_text(f"7 (x) R 1 7 7 0 -1 4 0 0 0 0 {ours} 0 0 0 20 0 3 0 9 0 0")


def test_a_worker_alone_on_the_machine_keeps_its_threads(tmp_path: Path) -> None:
    tell(tmp_path, busy=100, ours=0, idle=100)
    neighbours = Neighbours(7, 4, proc=tmp_path, processors=4)
    tell(tmp_path, busy=300, ours=200, idle=100)
    assert neighbours.usable_threads() == 4


def test_a_worker_with_busy_neighbours_decodes_with_one_thread_until_they_rest(
    tmp_path: Path,
) -> None:
    tell(tmp_path, busy=100, ours=0, idle=100)
    neighbours = Neighbours(7, 4, proc=tmp_path, processors=4)
    tell(tmp_path, busy=300, ours=0, idle=100)
    assert neighbours.usable_threads() == 1
    tell(tmp_path, busy=300, ours=0, idle=900)
    assert neighbours.usable_threads() == 4


def test_where_nothing_can_be_told_all_threads_decode(tmp_path: Path) -> None:
    assert Neighbours(7, 4, proc=tmp_path, processors=4).usable_threads() == 4


def test_the_real_machine_can_be_looked_at() -> None:
    assert Neighbours(os.getpid(), 1).usable_threads() == 1


async def test_a_worker_is_regulated_by_what_happens_while_it_is_busy(tmp_path: Path) -> None:
    tell(tmp_path, busy=100, ours=0, idle=100)
    neighbours = Neighbours(7, 4, proc=tmp_path, processors=4)
    busy = asyncio.Event()
    told: asyncio.Queue[int] = asyncio.Queue()
    regulating = asyncio.create_task(regulate(neighbours, busy, 0.0, told.put_nowait))
    await asyncio.sleep(0)  # it waits
    tell(tmp_path, busy=900, ours=0, idle=100)  # a burst before the first request
    busy.set()
    assert await told.get() == 4
    tell(tmp_path, busy=1700, ours=0, idle=100)
    assert await told.get() == 1
    regulating.cancel()
    assert told.empty()
