"""What it costs to put each request to a model on record, against putting none.

The models answer at once, so that all the rest of the way is what is measured: a real answer takes
a hundred times as long. Both agents' APIs are in this process, on real sockets; the journal is on a
real disk, which syncs.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import statistics
import tempfile
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

from figure import Figure
from simulators.sealed import journal_of
from simulators.told_models import ToldModels
from sprat_agent.api.account import Account, Nobody
from sprat_agent.api.app import build_app
from sprat_agent.api.server import LocalApi
from sprat_agent.audit.accounts import Accounts
from sprat_agent.audit.journal import EventWriter
from sprat_agent.clock import system_clock
from sprat_agent.state import State

PAIRS: Final = 15
REQUESTS: Final = 200  # of each half of a pair
# Of the shortest way that there is.
BOUND: Final = 2.0
ANSWER_MS: Final = 100.0  # a short answer of a small model on a small board
_BODY: Final = json.dumps(
    {"model": "assistant", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
).encode()  # sent with the headers at once: two segments would wait for each other


def figures() -> Iterator[Figure]:
    """Yield the figures of this area."""
    for one_in, name in ((1, "each"), (0, "hourly")):
        none_ms, on_record_ms, written = asyncio.run(_measured(one_in))
        ratios = [mine / theirs for mine, theirs in zip(on_record_ms, none_ms, strict=True)]
        extra_ms = statistics.median(on_record_ms) - statistics.median(none_ms)
        yield Figure(
            f"inference_records_{name}_vs_none",
            statistics.median(ratios),
            "ratio",
            BOUND,
            detail={
                "pairs": [round(one, 3) for one in ratios],
                "none_ms": [round(one, 3) for one in none_ms],
                "on_record_ms": [round(one, 3) for one in on_record_ms],
                "share_of_an_answer_of_100_ms": round(extra_ms / ANSWER_MS, 5),
                "records": written,
            },
        )


async def _measured(one_in: int) -> tuple[list[float], list[float], int]:
    """Return milliseconds a request without and with records, by pair, and the number of them."""
    with tempfile.TemporaryDirectory(prefix="sprat-bench-") as name:
        folder = Path(name)
        state = State(folder)
        journal = journal_of(state, system_clock)
        events = EventWriter(state, journal, system_clock)
        accounts = Accounts(
            state, journal, events, clock=system_clock, draw=lambda: 0.0, one_in=one_in
        )
        running = [asyncio.create_task(one.run()) for one in (events, accounts)]
        async with (
            _served(folder / "a", Nobody()) as none,
            _served(folder / "b", accounts) as with_,
        ):
            for port in (none, with_):
                await asyncio.to_thread(_ask, port, REQUESTS)
            found: dict[int, list[float]] = {none: [], with_: []}
            for number in range(PAIRS):
                for port in (none, with_) if number % 2 else (with_, none):
                    took_ms = await asyncio.to_thread(_ask, port, REQUESTS)
                    found[port].append(took_ms / REQUESTS)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        events.flush()
        accounts.close()
        written = journal.next_seq() - 1
        state.close()
    return found[none], found[with_], written


@asynccontextmanager
async def _served(socket: Path, account: Account) -> AsyncGenerator[int]:
    app = build_app(
        ToldModels(),
        clock=system_clock,
        new_id=lambda: uuid.uuid4().hex,
        is_simulated=True,
        status=dict,
        account=account,
    )
    api = LocalApi(app, "127.0.0.1:0", socket)
    url = await api.start()
    yield int(url.rpartition(":")[2])
    await api.stop()


def _ask(port: int, times: int) -> float:
    """Ask so often, one after the other; return how many milliseconds that took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        began = perf_counter()
        for _ in range(times):
            headers = {"content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", _BODY, headers)
            if not connection.getresponse().read().endswith(b"data: [DONE]\n\n"):
                raise RuntimeError("an answer has no end")
        return (perf_counter() - began) * 1000
