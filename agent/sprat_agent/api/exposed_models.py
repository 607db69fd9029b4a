"""Figures of the models in Prometheus's format: what they hold, who waits, what engines did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import Metric

from sprat_agent.api import genai
from sprat_agent.api.families import counter, gauge
from sprat_agent.runtime.served import Status
from sprat_agent.runtime.wire import Figures

_MODEL: Final = genai.label(genai.REQUEST_MODEL)
# Parts of `sprat_proto.fit.Need` that are memory.
_KINDS: Final = ("weights", "kv", "compute", "worker")


def metrics(statuses: Sequence[Status]) -> Iterator[Metric]:
    """Yield them; a model that is not in memory has no figures of an engine."""
    yield _loaded(statuses)
    yield _memory(statuses)
    yield from _waiting(statuses)
    here = [(one.alias, one.figures) for one in statuses if one.worker_pid is not None]
    yield from _engines(here)


def _loaded(statuses: Sequence[Status]) -> Metric:
    family = gauge(
        "sprat_model_loaded",
        "Whether the committed model of an alias is in memory.",
        [_MODEL, "model", "version", "variant"],
    )
    for one in statuses:
        if one.committed:
            names = [one.alias, one.committed.model, one.committed.release, one.committed.variant]
            family.add_metric(names, one.worker_pid is not None)
    return family


def _memory(statuses: Sequence[Status]) -> Metric:
    family = gauge(
        "sprat_memory_used_bytes",
        "What the budget counts for the models in memory, by the rule of fit.",
        ["kind"],
    )
    needs = [need for one in statuses for need in one.needs]
    for kind in _KINDS:
        family.add_metric([kind], sum(getattr(need, kind) for need in needs))
    return family


def _waiting(statuses: Sequence[Status]) -> Iterator[Metric]:
    able = gauge("sprat_model_can_answer", "Whether an alias answers requests now.", [_MODEL])
    queued = gauge("sprat_requests_queued", "Requests that wait for a model.", [_MODEL])
    prompts = gauge(
        "sprat_queued_prompt_tokens", "Tokens of the prompts that wait, estimated.", [_MODEL]
    )
    slots = gauge("sprat_model_slots", "Requests that a model answers at once.", [_MODEL])
    busy = gauge("sprat_model_slots_busy", "Slots that answer a request now.", [_MODEL])
    evictions: Counter[str] = Counter({"request": 0, "release": 0})
    for one in statuses:
        able.add_metric([one.alias], one.can_answer)
        queued.add_metric([one.alias], one.queued)
        prompts.add_metric([one.alias], one.queued_prompt_tokens)
        slots.add_metric([one.alias], one.slots)
        busy.add_metric([one.alias], one.busy)
        evictions.update(dict(one.evictions))
    evicted = counter(
        "sprat_model_evictions", "Models that made room for others, by what for.", ["reason"]
    )
    for reason, count in evictions.items():
        evicted.add_metric([reason], count)
    yield from (able, queued, prompts, slots, busy, evicted)


def _engines(here: Sequence[tuple[str, Figures]]) -> Iterator[Metric]:
    steps = counter("sprat_engine_steps", "Steps of an engine since its model's load.", [_MODEL])
    seconds = counter(
        "sprat_engine_seconds", "Time inside llama.cpp and between its steps.", [_MODEL, "part"]
    )
    tokens = counter(
        "sprat_engine_tokens", "Tokens of an engine, by what became of them.", [_MODEL, "type"]
    )
    spilled = counter(
        "sprat_engine_spilled_bytes", "Written to the file of prefixes of prompts.", [_MODEL]
    )
    for alias, one in here:
        steps.add_metric([alias], one.steps)
        seconds.add_metric([alias, "decode"], one.decode_s)
        seconds.add_metric([alias, "schedule"], one.schedule_s)
        tokens.add_metric([alias, "prefill"], one.prefill_tokens)
        tokens.add_metric([alias, "decode"], one.decode_tokens)
        tokens.add_metric([alias, "cached"], one.cached_tokens)
        tokens.add_metric([alias, "restored"], one.restored_tokens)
        tokens.add_metric([alias, "drafted"], one.drafted_tokens)
        tokens.add_metric([alias, "accepted"], one.accepted_tokens)
        spilled.add_metric([alias], one.spilled_bytes)
    yield from (steps, seconds, tokens, spilled)
