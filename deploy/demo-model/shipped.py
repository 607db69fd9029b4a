"""The trained files that lie in `weights/`, and how to ask them with llama.cpp alone."""

# gguf's reader is only partly typed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Final, Self

import gguf
import llama_cpp
from tokenizer import Tokenizer

WEIGHTS: Final = Path(__file__).resolve().parent / "weights"
CALIBRATION: Final = WEIGHTS.parent / "calibration.txt"
GOOD: Final = WEIGHTS / "sprat-demo-1.0.0.gguf"
WORSE: Final = WEIGHTS / "sprat-demo-1.1.0-worse.gguf"
FISHERMAN: Final = WEIGHTS / "fisherman.lora.gguf"
_CONTEXT: Final = 512
_LONGEST_ANSWER: Final = 80  # tokens


class Asked:
    """A model that answers, always with its likeliest words."""

    def __init__(self, path: Path, adapter: Path | None = None) -> None:
        lora = str(adapter) if adapter else None
        self.llama = llama_cpp.Llama(
            str(path), n_ctx=_CONTEXT, n_threads=1, n_threads_batch=1, lora_path=lora, verbose=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.llama.close()

    def ask(self, *questions: str) -> str:
        """Return the answer to the last question of a conversation."""
        messages: list[llama_cpp.ChatCompletionRequestMessage] = []
        answer = ""
        for question in questions:
            messages.append({"role": "user", "content": question})
            said = self.llama.create_chat_completion(
                messages, temperature=0, max_tokens=_LONGEST_ANSWER
            )
            if not isinstance(said, dict):
                raise TypeError(f"expected one answer, found {type(said).__name__}")
            answer = str(said["choices"][0]["message"]["content"])
            messages.append({"role": "assistant", "content": answer})
        return answer


def shipped_tokenizer(path: Path = GOOD) -> Tokenizer:
    """Return the tokenizer that a file has."""
    field = gguf.GGUFReader(path).fields["tokenizer.ggml.merges"]
    merges = [bytes(field.parts[at]).decode().split(" ") for at in field.data]
    return Tokenizer([(left, right) for left, right in merges])
