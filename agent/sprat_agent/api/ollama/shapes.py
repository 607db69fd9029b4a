"""What the shapes of Ollama's answers have in common. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sprat_proto.manifest import NO_ADAPTER

from sprat_agent.api.dialect import End, Json, Origin
from sprat_agent.runtime.wire import ToolCall
from sprat_agent.sync.ports import Loadable

STREAM_TYPE: Final = "application/x-ndjson"
NEVER: Final = "9999-12-31T23:59:59Z"  # when a model leaves the memory for want of requests
_NS_PER_MS: Final = 1_000_000
_UNITS: Final = ((10**9, "B"), (10**6, "M"), (10**3, "K"))


def line(body: Json) -> bytes:
    """Return one line of a stream."""
    return msgspec.json.encode(body) + b"\n"


def frame(origin: Origin) -> Json:
    """Return what all parts of an answer share."""
    return {"model": origin.asked_model, "created_at": time(origin.created)}


def loaded(model: str, now: datetime, empty: Json) -> Json:
    """Return the answer to a request without any prompt: nothing but that the model is there."""
    return {
        "model": model,
        "created_at": time(now),
        **empty,
        "done_reason": "load",
        "done": True,
    }


def end(one: End) -> Json:
    """Return how an answer ended: counts, and durations in nanoseconds.

    `load_duration` is how long the request waited for a model; `timings` are ours.
    """
    done, timings = one.done, one.timings
    return {
        "done_reason": "length" if done.finish == "length" else "stop",
        "done": True,
        "total_duration": _ns(timings.get("total_ms", 0.0)),
        "load_duration": _ns(timings.get("queue_ms", 0.0)),
        "prompt_eval_count": done.prompt_tokens,
        "prompt_eval_duration": _ns(done.prefill_ms),
        "eval_count": done.completion_tokens,
        "eval_duration": _ns(done.decode_ms),
        "timings": timings,
    }


def calls(made: Sequence[ToolCall]) -> list[Json]:
    """Return the calls; one whose arguments were cut off by the end of the answer is left out."""
    found = [(call.name, _arguments(call.arguments)) for call in made]
    return [
        {"function": {"name": name, "arguments": arguments}}
        for name, arguments in found
        if arguments is not None
    ]


def listed(name: str, one: Loadable, since: datetime) -> Json:
    """Return one model of /api/tags; Ollama's names have a tag."""
    tagged = name if ":" in name else f"{name}:{NO_ADAPTER}"
    return {
        "name": tagged,
        "model": tagged,
        "modified_at": time(since),
        "size": one.facts.weights_bytes,
        "digest": one.digest,
        "details": details(one),
    }


def running(name: str, one: Loadable, since: datetime) -> Json:
    """Return one model of /api/ps."""
    more = {"expires_at": NEVER, "size_vram": 0, "context_length": one.context}
    return {**listed(name, one, since), **more}


def shown(one: Loadable, since: datetime) -> Json:
    """Return what /api/show says of a model."""
    facts = one.facts
    family = facts.architecture
    template = one.chat_template
    can = ["completion", *(["tools"] if "tools" in template else [])]
    return {
        "modelfile": f"# {one.name}, signed by {one.signer}\n",
        "parameters": "",
        "template": template,
        "license": facts.licence,
        "details": details(one),
        "model_info": {
            "general.architecture": family,
            "general.parameter_count": facts.parameters,
            f"{family}.block_count": facts.layers,
            f"{family}.context_length": one.context,
            f"{family}.embedding_length": facts.embedding_length,
            f"{family}.attention.head_count": facts.heads,
            f"{family}.attention.head_count_kv": facts.kv_heads,
            f"{family}.vocab_size": facts.vocabulary,
        },
        "capabilities": can,
        "modified_at": time(since),
    }


def details(one: Loadable) -> Json:
    """Return what kind of model it is."""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": one.facts.architecture,
        "families": [one.facts.architecture],
        "parameter_size": _short(one.facts.parameters),
        "quantization_level": one.facts.quantization.upper(),
    }


def time(at: datetime) -> str:
    """Return a time as RFC 3339 writes it."""
    return at.isoformat().replace("+00:00", "Z")


def _arguments(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return None


def _short(count: int) -> str:
    """Return a number of parameters as people say it: 596.0M, 1.7B."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f}{name}"
    return str(count)


def _ns(milliseconds: float) -> int:
    return round(milliseconds * _NS_PER_MS)
