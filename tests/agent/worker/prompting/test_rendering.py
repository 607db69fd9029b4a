"""A signed chat template is a program: it may take so much time and memory and no more."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import _thread
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from simulators.waiting import until
from sprat_agent.worker.prompting import rendering
from sprat_agent.worker.prompting.rendering import OverrunError, bounded

DOUBLING = (
    "{% set space = namespace(x='12') %}"
    "{% for a in range(99) %}{% set space.x = space.x ~ space.x %}{% endfor %}"
)


def threads() -> set[Path]:
    return {*Path("/proc/self/task").iterdir()}


def rendered(template: str) -> Callable[[], str]:
    made = ImmutableSandboxedEnvironment().from_string(template)
    return lambda: made.render(messages=["a", "b"])


def test_what_stays_within_bounds_is_returned() -> None:
    assert bounded(rendered("{% for one in messages %}<{{ one }}>{% endfor %}")) == "<a><b>"


def test_what_fails_by_itself_fails_as_it_did() -> None:
    with pytest.raises(ZeroDivisionError):
        bounded(rendered("{{ 1 // (messages | length - 2) }}"))


async def test_loops_end_after_a_second_of_processor_time() -> None:
    bounded(rendered(""))
    before = threads()
    many = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    with pytest.raises(OverrunError, match="more than 1 s"):
        bounded(rendered(many))
    # Nothing is left behind that would end what this thread does next.
    assert bounded(rendered("{{ messages | length }}")) == "2"
    await until(lambda: threads() <= before)


def test_where_a_thread_gets_no_memory_to_begin_with_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[object] = []

    def start(function: object, _arguments: object) -> int:
        started.append(function)  # as when it fails in the new thread, where nobody sees it
        return 0

    monkeypatch.setattr(rendering, "_WATCHER", rendering._Watcher())
    monkeypatch.setattr(_thread, "start_new_thread", start)
    for asked in (1, 2):  # again, as nobody came
        assert bounded(rendered("{{ messages | length }}")) == "2"
        assert len(started) == asked


def test_where_no_thread_can_be_had_what_is_within_bounds_is_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_function: object, _arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(rendering, "_WATCHER", rendering._Watcher())
    monkeypatch.setattr(_thread, "start_new_thread", start)
    assert bounded(rendered("{{ messages | length }}")) == "2"


async def test_however_much_is_rendered_one_thread_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    real, started = _thread.start_new_thread, list[object]()

    def start(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
        started.append(function)
        return real(function, arguments)

    bounded(rendered(""))
    await until(lambda: rendering._WATCHER._runs_in == os.getpid())
    monkeypatch.setattr(_thread, "start_new_thread", start)
    for _ in range(300):
        bounded(rendered("{{ messages | length }}"))
    assert not started
    # And it goes on to watch.
    with pytest.raises(OverrunError, match="more than 1 s"):
        bounded(rendered("{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3))


async def test_a_watcher_that_ended_is_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = rendering._Watcher()
    monkeypatch.setattr(rendering, "_WATCHER", watcher)
    bounded(rendered(""))
    await until(lambda: watcher._runs_in == os.getpid())
    watcher._runs_in = -1  # as after a fork
    with pytest.raises(OverrunError, match="more than 1 s"):
        bounded(rendered("{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3))


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0] * 2000000000 }}",
        "{{ '%02000000000d' % (messages | length) }}",
        DOUBLING,
        "{% for a in range(99999) %}{{ messages[0] * 99999 }}{% endfor %}",
    ],
)
def test_memory_ends_before_the_devices_does(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the kernel is slow to hand out memory, the time would be over first.
    monkeypatch.setattr(rendering, "CPU_S", 60.0)
    monkeypatch.setattr(rendering, "KILL_CPU_S", 90.0)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(OverrunError, match="more than 256 MiB"):
        bounded(rendered(template))
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_lower_limit_of_the_worker_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "MEMORY_BYTES", 1 << 50)
    before = resource.getrlimit(resource.RLIMIT_AS)
    lower = 1 << 40
    resource.setrlimit(resource.RLIMIT_AS, (lower, before[1]))
    try:
        within = bounded(lambda: resource.getrlimit(resource.RLIMIT_AS)[0])
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert within == lower
