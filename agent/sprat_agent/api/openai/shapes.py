"""What the shapes of OpenAI's answers have in common. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sprat_agent.api import names
from sprat_agent.api.dialect import End, Json, Origin
from sprat_agent.sync.ports import Loadable

END_OF_STREAM: Final = b"data: [DONE]\n\n"


def frame(origin: Origin, kind: str, prefix: str) -> Json:
    """Return what all parts of an answer share."""
    return {
        "id": prefix + origin.id,
        "object": kind,
        "created": int(origin.created.timestamp()),
        "model": origin.asked_model,
        "system_fingerprint": origin.loadable.digest[:16],
    }


def usage(ends: Sequence[End], choices: int) -> Json:
    """Return the token counts; a prompt counts once, however many choices it has."""
    prompts = [end.done for end in ends[::choices]]
    prompt_tokens = sum(one.prompt_tokens for one in prompts)
    completion = sum(end.done.completion_tokens for end in ends)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in prompts)},
    }


def model_entry(name: str, loadable: Loadable, created: int) -> Json:
    """Return one model of GET /v1/models; `sprat` says what the name stands for."""
    _, adapter = names.split(name)
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": loadable.signer,
        "sprat": {
            "model": loadable.model,
            "release": loadable.release,
            "variant": loadable.variant,
            "digest": loadable.digest,
            "context": loadable.context,
            **({"adapter": adapter} if adapter else {}),
        },
    }
