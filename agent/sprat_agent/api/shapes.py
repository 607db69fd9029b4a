"""What a chat completion looks like on the way out, whole and in chunks. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from sprat_agent.runtime.wire import Done
from sprat_agent.sync.ports import Loadable

Json: TypeAlias = dict[str, Any]

END_OF_STREAM = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Completion:
    """What all parts of one answer share."""

    id: str
    created: int  # Unix seconds
    asked_model: str  # the name as the application gave it
    loadable: Loadable

    def headers(self) -> dict[str, str]:
        """Return who answered, for people and programs that care."""
        return {
            "x-request-id": self.id,
            "x-sprat-model": self.loadable.name,
            "x-sprat-digest": self.loadable.digest,
            "x-sprat-signer": _header_text(self.loadable.signer),
        }

    def whole(self, text: str, done: Done, timings: dict[str, float]) -> Json:
        """Return the answer to a request that does not stream."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": done.finish}
        return {
            **self._frame("chat.completion"),
            "choices": [choice],
            "usage": usage(done),
            "timings": timings,
        }

    def chunk(self, delta: Json, *, finish: str | None = None) -> Json:
        """Return one chunk of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._frame("chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self, done: Done) -> Json:
        """Return the chunk that `stream_options.include_usage` asks for, after all others."""
        return {**self._frame("chat.completion.chunk"), "choices": [], "usage": usage(done)}

    def _frame(self, kind: str) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.asked_model,
            "system_fingerprint": self.loadable.digest[:16],
        }


def usage(done: Done) -> Json:
    """Return the token counts."""
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "total_tokens": done.prompt_tokens + done.completion_tokens,
    }


def model_entry(name: str, loadable: Loadable, created: int) -> Json:
    """Return one model of GET /v1/models; `sprat` says what the alias stands for."""
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
        },
    }


def event(body: Json) -> bytes:
    """Return a server-sent event (WHATWG HTML, section 9.2)."""
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def _header_text(text: str) -> str:
    """Make a publisher's name fit a header: latin-1 and no line ends."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)
