"""The measuring child: jailed, and gone at once when it is not wanted."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from simulators.waiting import until
from sprat_agent.measuring.child import cache_bytes, clock
from sprat_agent.measuring.process import MeasuringError, Terms, measure
from sprat_agent.profile import probe

MIB = 1 << 20
HANGS = "import os, sys, time; open(sys.argv[-1], 'w').write(str(os.getpid())); time.sleep(600)"


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_this_machine_is_measured_in_the_jail(tmp_path: Path) -> None:
    found = await measure(Terms(1, 4 * MIB), tmp_path)
    assert found.engine == probe.engine()
    assert found.threads == 1
    assert {"q4_0", "q8_0", "q4_k", "q6_k", "f16"} <= {cost.kind for cost in found.costs}
    assert all(cost.decode_fs > 1 and cost.prefill_fs > 1 for cost in found.costs)
    assert found.bandwidth > 0
    assert not left(tmp_path)


async def test_a_child_that_is_not_wanted_is_killed(tmp_path: Path) -> None:
    said = tmp_path / "pid"
    command = (sys.executable, "-c", HANGS.replace("sys.argv[-1]", repr(str(said))))
    terms = Terms(1, 4 * MIB, command=command)
    task = asyncio.create_task(measure(terms, tmp_path))
    await until(lambda: said.exists() and said.read_text() != "")
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()), 0)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("raise SystemExit('no memory\\nat all')", "status 1 and said: no memory\\nat all"),
        ("print('{}')", "status 0 and said: nothing"),
    ],
)
async def test_a_child_that_finds_nothing_is_one_sentence(
    tmp_path: Path, script: str, sentence: str
) -> None:
    with pytest.raises(MeasuringError) as caught:
        await measure(Terms(1, 4 * MIB, command=(sys.executable, "-c", script)), tmp_path)
    assert str(caught.value) == f"measuring ended with {sentence}"


@pytest.mark.parametrize(
    ("threads", "quota_milli", "stretch"), [(1, 0, 1), (1, 500, 2), (2, 2500, 1), (2, 2000, 1)]
)
def test_what_a_quota_stops_takes_longer(threads: int, quota_milli: int, stretch: int) -> None:
    read = clock(threads, quota_milli)
    before, told = time.thread_time(), read()
    after = time.thread_time()
    assert before * stretch <= told <= after * stretch


def test_the_greatest_cache_counts(tmp_path: Path) -> None:
    assert cache_bytes(tmp_path) == 0
    for index, text in enumerate(["32K\n", "2M\n", "512K\n", "many"]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(text)
    assert cache_bytes(tmp_path) == 2 * MIB
