"""How a model is served reaches its worker, and is what the budget counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from simulators.workbench import Bench
from sprat_agent.runtime.process import WorkerProcess
from sprat_agent.runtime.wire import Load, Loaded
from sprat_agent.sync.ports import Loadable, Serving
from sprat_proto import fit
from sprat_proto.assignment import ServingTerms


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Load]:
    """What workers are told to load."""
    told: list[Load] = []
    load = WorkerProcess.load

    async def noted(worker: WorkerProcess, source: Load) -> Loaded:
        told.append(source)
        return await load(worker, source)

    monkeypatch.setattr(WorkerProcess, "load", noted)
    return told


def served(one: Loadable, **terms: Any) -> Loadable:
    return replace(one, serving=Serving.by(ServingTerms(**terms)))


async def test_what_is_assigned_reaches_the_workers_load(
    bench: Bench, one: Loadable, loads: list[Load]
) -> None:
    asked = served(one, slots=2, kv_type="q8_0", is_pinned=True)
    await bench.supervisor.load_committed(asked)
    (load,) = loads
    assert (load.slots, load.kv_type) == (2, "q8_0")  # no slot more, though there is memory
    candidate = fit.Candidate(one.variant, one.digest, "", (), 0, one.facts)
    (need,) = bench.statuses()["assistant"].needs
    assert need.kv == fit.need(candidate, one.context, 2, "q8_0").kv


async def test_a_device_decides_where_nothing_is_said(
    bench: Bench, one: Loadable, loads: list[Load]
) -> None:
    await bench.supervisor.load_committed(served(one))
    (load,) = loads
    assert load.slots > 1
    assert load.kv_type == "f16"


async def test_the_same_variant_is_loaded_anew_to_be_served_otherwise(
    bench: Bench, one: Loadable, loads: list[Load]
) -> None:
    await bench.supervisor.load_committed(served(one, slots=1))
    pid = bench.pid()
    await bench.supervisor.load_committed(served(one, slots=1))
    assert bench.pid() == pid
    await bench.supervisor.load_committed(served(one, slots=3))
    assert [load.slots for load in loads] == [1, 3]
    assert bench.pid() != pid
