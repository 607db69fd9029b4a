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
from sprat_controller.publisher.evaluate.orders import CHUNK

_COMPLAINTS: Final = (3, 4)  # ggml_log_level: warning, error
_PIECE: Final = 64  # bytes; few tokens are longer
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
        self._batch: Any = llama_cpp.llama_batch_init(_at_once(self.context), 0, 1)

    @property
    def beginning(self) -> int | None:
        """The token that texts of this model begin with, if they do."""
        if not llama_cpp.llama_vocab_get_add_bos(self._vocabulary):
            return None
        return int(llama_cpp.llama_vocab_bos(self._vocabulary))  # type: ignore[arg-type]

    @property
    def marks(self) -> tuple[str, str]:
        """The names of the tokens that begin and end a text, as chat templates ask for them."""
        begin: Any = llama_cpp.llama_vocab_bos(self._vocabulary)
        end: Any = llama_cpp.llama_vocab_eos(self._vocabulary)
        return self._text(int(begin), is_named=True), self._text(int(end), is_named=True)

    def tokens(self, text: str) -> Tokens:
        """Return a text's tokens, with a beginning if the model wants one."""
        return self._cut(text, is_prompt=False)

    def answer(self, prompt: str, most: int) -> str:
        """Return what the model says to a prompt in which its control tokens are named, greedily.

        Args:
            prompt: As a chat template makes it.
            most: Tokens of the answer, if it does not end before.

        Raises:
            ModelError: The prompt and its answer have no room in the context.
        """
        prompted = self._cut(prompt, is_prompt=True)
        if not 0 < len(prompted) <= self.context - most:
            raise ModelError(
                f"expected 1 to {self.context - most} tokens of a prompt whose answer may have"
                f" {most}, found {len(prompted)}"
            )
        self.forget()
        for start in range(0, len(prompted), CHUNK):
            self.go_on(prompted[start : start + CHUNK], start)
        said = bytearray()
        for at in range(len(prompted), len(prompted) + most):
            token = self._likeliest()
            if llama_cpp.llama_vocab_is_eog(self._vocabulary, token):
                break
            said += self._bytes(token, is_named=False)
            self.go_on(np.array([token], np.int32), at)
        return said.decode("utf-8", "replace")

    def _likeliest(self) -> int:
        pointer: Any = llama_cpp.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(pointer, (self.vocabulary,)).argmax())

    def _text(self, token: int, *, is_named: bool) -> str:
        return self._bytes(token, is_named=is_named).decode("utf-8", "replace")

    def _bytes(self, token: int, *, is_named: bool) -> bytes:
        """Return a token's bytes; a control token has a name only."""
        if token < 0:
            return b""
        room = _PIECE
        while True:
            buffer = ctypes.create_string_buffer(room)
            arguments = (self._vocabulary, token, buffer, room, 0, is_named)
            length = int(llama_cpp.llama_token_to_piece(*arguments))
            if length >= 0:
                return ctypes.string_at(buffer, length)
            room = -length

    def _cut(self, text: str, *, is_prompt: bool) -> Tokens:
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
            not is_prompt,  # with a beginning: templates write it themselves
            is_prompt,  # names of control tokens are these tokens
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


def _at_once(context: int) -> int:
    """Return how many tokens are computed at once: memory for logits is reserved for each."""
    return min(context, CHUNK)


def _context_parameters(context: int, threads: int) -> Any:
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = context
    parameters.n_batch = parameters.n_ubatch = _at_once(context)
    parameters.n_seq_max = 1
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.flash_attn_type = _FLASH_ATTENTION
    return parameters
