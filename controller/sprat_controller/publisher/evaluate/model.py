# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# llama-cpp-python's low-level bindings are untyped ctypes.
"""A model that llama.cpp has loaded, as the evaluation needs it; imported in children only.

It is set up as a device's worker sets it up: flash attention, keys and values in F16, weights read
and not mapped, so that the memory that is counted is what the weights take.
"""

from __future__ import annotations

import ctypes
from collections import deque
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np

from sprat_controller.publisher.evaluate.measures import Logits, Tokens

_COMPLAINTS: Final = (3, 4)  # ggml_log_level: warning, error
_FLASH_ATTENTION: Final = 1  # llama_flash_attn_type: enabled

_complaints: Final[deque[str]] = deque(maxlen=4)


class ModelError(Exception):
    """llama.cpp cannot; one sentence."""


@llama_cpp.llama_log_callback
def _take_log(level: int, text: bytes, _user_data: Any) -> None:
    line = text.decode("utf-8", "replace").strip()
    if level in _COMPLAINTS and line:
        _complaints.append(line)


def listen() -> None:
    """Have this process keep llama.cpp's complaints, and print nothing of what it says."""
    llama_cpp.llama_log_set(_take_log, ctypes.c_void_p(0))


class Model:
    """One model and one sequence of at most `context` tokens."""

    def __init__(self, path: Path, context: int, threads: int) -> None:
        """Load it.

        Raises:
            ModelError: It cannot be loaded.
        """
        self._path = path
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
        self._model: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise self._failed("load")
        trained: int = llama_cpp.llama_model_n_ctx_train(self._model)
        self.context = min(context, trained) if trained > 0 else context
        self._context: Any = llama_cpp.llama_init_from_model(
            self._model, _context_parameters(self.context, threads)
        )
        if not self._context:
            raise self._failed("load")
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        self._vocabulary: Any = llama_cpp.llama_model_get_vocab(self._model)
        self.vocabulary: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self._batch: Any = llama_cpp.llama_batch_init(self.context, 0, 1)

    @property
    def beginning(self) -> int | None:
        """The token that texts of this model begin with, if they do."""
        if not llama_cpp.llama_vocab_get_add_bos(self._vocabulary):
            return None
        return int(llama_cpp.llama_vocab_bos(self._vocabulary))  # type: ignore[arg-type]

    def tokens(self, text: str) -> Tokens:
        """Return a text's tokens, with a beginning if the model wants one."""
        data = text.encode()
        room = len(data) + 8
        found = np.zeros(room, np.int32)
        pointer = found.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        count: int = llama_cpp.llama_tokenize(
            self._vocabulary,
            data,
            len(data),
            pointer,  # type: ignore[arg-type]
            room,
            True,  # noqa: FBT003 - C: with a beginning
            False,  # noqa: FBT003 - C: names of control tokens are text
        )
        if count < 0:
            raise self._failed("cut the text into tokens for")
        return found[:count]

    def logits(self, tokens: Tokens, first: int) -> Logits:
        """Compute tokens from the beginning on; return a row for each from `first` to the last.

        The rows are good until the next computation.
        """
        self.forget()
        self._compute(tokens, 0, first)
        rows = len(tokens) - first
        pointer: Any = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, (rows, self.vocabulary))

    def forget(self) -> None:
        """Empty the context."""
        llama_cpp.llama_memory_clear(self._memory, True)  # noqa: FBT003 - C: the data too

    def go_on(self, tokens: Tokens, start: int) -> None:
        """Compute tokens from the position `start` on, with logits of the last, to the end."""
        self._compute(tokens, start, len(tokens) - 1)
        llama_cpp.llama_synchronize(self._context)

    def _compute(self, tokens: Tokens, start: int, first: int) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at] = int(token)
            batch.pos[at] = start + at
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = 0
            batch.logits[at] = at >= first
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise self._failed("compute with")

    def _failed(self, what: str) -> ModelError:
        reason = "; ".join(_complaints) or "it gives no reason"
        return ModelError(f"llama.cpp cannot {what} {self._path.name}: {reason}")


def _context_parameters(context: int, threads: int) -> Any:
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context
    parameters.n_seq_max = 1
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.flash_attn_type = _FLASH_ATTENTION
    return parameters
