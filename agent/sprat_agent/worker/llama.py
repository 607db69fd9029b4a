# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# llama-cpp-python's low-level bindings are untyped ctypes.
"""The only import of llama.cpp: its C interface, as a `batching.backend.Backend`."""

from __future__ import annotations

import ctypes
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from sprat_agent.runtime.wire import AdapterFile, Load, Sampling
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.decoding.decoding import Row
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.long_runs import parts
from sprat_agent.worker.spilling import streams

STEP_TOKENS: Final = 512  # also llama.cpp's micro-batch, which `sprat_proto.fit` counts with
_SEED_BITS: Final = 32
_COMPLAINTS: Final = (3, 4)  # ggml_log_level: warning, error
_KV_TYPES: Final = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
_FLASH_ATTENTION: Final = 1  # llama_flash_attn_type: enabled; quantized values need it
_PIECE_BYTES: Final = 256
# Logits are divided by it: below, quotients are too large to be told apart, which is to be greedy.
_LEAST_TEMPERATURE: Final = 1e-6


# The last warnings: the reason why a load failed is only there. One for the process, as the C
# library keeps one pointer to the callback for ever.
_complaints: Final[deque[str]] = deque(maxlen=4)


@llama_cpp.llama_log_callback
def _take_log(level: int, text: bytes, _user_data: Any) -> None:
    line = text.decode("utf-8", "replace").strip()
    if level in _COMPLAINTS and line:
        _complaints.append(line)


llama_cpp.llama_log_set(_take_log, ctypes.c_void_p(0))


class LlamaVocabulary:
    """A loaded model's tokens; see `vocabulary.Vocabulary`."""

    def __init__(self, model: Any) -> None:
        self.handle: Any = llama_cpp.llama_model_get_vocab(model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self.handle)
        self.bos = int(cast("Any", llama_cpp.llama_vocab_bos(self.handle)))
        self.eos = int(cast("Any", llama_cpp.llama_vocab_eos(self.handle)))
        self._ends = frozenset(
            token for token in range(self.size) if llama_cpp.llama_vocab_is_eog(self.handle, token)
        )
        self._is_cut: bool = (
            llama_cpp.llama_vocab_type(self.handle) == llama_cpp.LLAMA_VOCAB_TYPE_BPE
        )
        self._pieces: dict[int, bytes] = {}

    def tokenize(self, text: str, *, has_special: bool) -> list[int]:
        """Return the tokens of a text; see `Vocabulary`."""
        if not self._is_cut:
            return self._tokens(text, has_special=has_special)
        found = (self._tokens(part, has_special=has_special) for part in parts(text))
        return [token for tokens in found for token in tokens]

    def _tokens(self, text: str, *, has_special: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        while True:
            tokens = (ctypes.c_int32 * room)()
            arguments = (self.handle, data, len(data), tokens, room, False, has_special)
            count: int = llama_cpp.llama_tokenize(*arguments)
            if count >= 0:
                return cast("list[int]", tokens[:count])
            room = -count

    def piece(self, token: int) -> bytes:
        """Return a token's bytes; a control token has none."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._text(token, is_special=False)
        return known

    def name(self, token: int) -> bytes:
        """Return a token's bytes, or a control token's text."""
        return self._text(token, is_special=True) if token >= 0 else b""

    def is_end(self, token: int) -> bool:
        """Tell whether the token ends an answer."""
        return token in self._ends

    def is_control(self, token: int) -> bool:
        """Tell whether it is a control token."""
        return bool(llama_cpp.llama_vocab_is_control(self.handle, token))

    def framed(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens with a beginning and an end; see `Vocabulary`."""
        before = [self.bos] if llama_cpp.llama_vocab_get_add_bos(self.handle) else []
        after = [self.eos] if llama_cpp.llama_vocab_get_add_eos(self.handle) else []
        if llama_cpp.llama_vocab_get_add_sep(self.handle):
            after = [int(cast("Any", llama_cpp.llama_vocab_sep(self.handle)))]
        begins = list(tokens[:1]) == before
        ends = list(tokens[-1:]) == after
        return [*([] if begins else before), *tokens, *([] if ends else after)]

    def _text(self, token: int, *, is_special: bool) -> bytes:
        size = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)  # of its own: threads read the vocabulary
            arguments = (self.handle, token, buffer, size, 0, is_special)
            length = int(llama_cpp.llama_token_to_piece(*arguments))
            if length >= 0:
                return ctypes.string_at(buffer, length)
            size = -length


class LlamaSampler:
    """A chain of llama.cpp's samplers; see `backend.Sampler`."""

    def __init__(self, context: Any, steps: Sequence[Any]) -> None:
        self._context = context
        parameters = llama_cpp.llama_sampler_chain_default_params()
        self._chain = llama_cpp.llama_sampler_chain_init(parameters)
        for step in steps:
            llama_cpp.llama_sampler_chain_add(self._chain, step)

    def choose(self, at: int) -> int:
        """Return a token by the step's token `at`, and remember it."""
        return int(llama_cpp.llama_sampler_sample(self._chain, self._context, at))

    def close(self) -> None:
        """Free the chain and its steps."""
        llama_cpp.llama_sampler_free(self._chain)


class LlamaBackend:
    """One GGUF model; see `backend.Backend`.

    Each sequence has a stream of its own for keys and values, so that attention over one prompt
    does not read the others'.
    """

    step_tokens = STEP_TOKENS

    def __init__(self) -> None:
        self._model: Any = None
        self._context: Any = None
        self.context = 0
        self.slots = 0
        self.can_generate = False
        self.can_rewind = False
        self.embedding_length = 0
        self._adapters: dict[str, Any] = {}
        self._adapter = ""  # that steps are computed with now

    @property
    def adapters(self) -> Sequence[str]:
        """The names of the LoRAs that were loaded."""
        return tuple(self._adapters)

    def load(self, source: Load) -> None:
        """Load the model file; a context longer than the model was trained for is cut."""
        _complaints.clear()
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        # Of a mapped file, pages of weights that are repacked for the processor would stay in
        # memory beside their copies; read into buffers, weights are there once.
        parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
        self._model = llama_cpp.llama_model_load_from_file(source.path.encode(), parameters)
        if not self._model:
            raise _load_failed()
        trained: int = llama_cpp.llama_model_n_ctx_train(self._model)
        self.context = min(source.context, trained) if trained > 0 else source.context
        self.slots = source.slots
        self._kv_type = source.kv_type
        # Before the context: its graphs have room for those that the model has then.
        for one in source.adapters:
            self._adapters[one.name] = self._loaded_adapter(one)
        self._context = llama_cpp.llama_init_from_model(self._model, self._parameters(source))
        if not self._context:
            raise _load_failed()
        self.vocabulary = LlamaVocabulary(self._model)
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        self._pooling: int = llama_cpp.llama_pooling_type(self._context)
        self._threads = source.threads
        # An encoder computes a whole text at once and keeps nothing of it.
        self.can_generate = bool(self._memory)
        self.can_rewind = not (
            llama_cpp.llama_model_is_recurrent(self._model)
            or llama_cpp.llama_model_is_hybrid(self._model)
        )
        self.embedding_length = int(llama_cpp.llama_model_n_embd(self._model))
        self._batch = _Batch(STEP_TOKENS)
        self._is_plain = False
        if self.can_generate:
            self._is_plain = streams.is_plain(self.save(0, self.state_size(0)), self.slots)

    def decode(self, runs: Sequence[Run]) -> None:
        """Compute the runs in one step."""
        at = 0
        for run in runs:
            at = self._batch.add(at, run)
        self._compute(at)

    def use_adapter(self, name: str) -> None:
        """Compute with this adapter; empty: with the model alone."""
        if name == self._adapter:
            return
        handles = [self._adapters[name]] if name else []
        chosen = (llama_cpp.llama_adapter_lora_p_ctypes * len(handles))(*handles)
        scales = (ctypes.c_float * len(handles))(*[1.0] * len(handles))
        result: int = llama_cpp.llama_set_adapters_lora(self._context, chosen, len(handles), scales)
        if result != 0:
            raise EngineError("engine_error", f"llama.cpp cannot use the adapter {name!r}")
        self._adapter = name

    def row(self, at: int) -> Row:
        """Return the logits of the step's token `at`."""
        pointer: Any = llama_cpp.llama_get_logits_ith(self._context, at)
        return np.ctypeslib.as_array(pointer, (self.vocabulary.size,))

    def sampler(self, sampling: Sampling) -> LlamaSampler | None:
        """Return what chooses tokens; None: the greatest logit does."""
        adjustments = list(_adjustments(sampling, self.vocabulary))
        if sampling.temperature < _LEAST_TEMPERATURE and not adjustments:
            return None
        return LlamaSampler(self._context, [*adjustments, *_choice(sampling)])

    def keep(self, sequence: int, length: int) -> int:
        """Forget what is beyond; a recurrent model cannot go back and forgets all."""
        if not self._memory:
            return 0
        if length and llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1):
            return length
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return 0

    def copy(self, source: int, target: int) -> None:
        """Copy whole: between streams llama.cpp knows no part."""
        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    @property
    def state_kind(self) -> str:
        """Name the library, and how it was told to lay keys and values out."""
        kind = f"llama-cpp-python {llama_cpp.__version__} {self._kv_type}"
        return kind if self._is_plain else f"{kind} streams={self.slots}"

    def state_size(self, sequence: int) -> int:
        """Return how many bytes the state of a sequence takes."""
        number: Any = sequence
        return int(llama_cpp.llama_state_seq_get_size(self._context, number))

    def save(self, sequence: int, size: int) -> memoryview:
        """Return a copy of the keys and values of a sequence, of this size or a little less."""
        state = np.empty(size, np.uint8)
        pointer, number = _pointer(state, ctypes.c_uint8), cast("Any", sequence)
        count = llama_cpp.llama_state_seq_get_data(self._context, pointer, size, number)
        saved = state.data[: int(count)]
        return streams.cut(saved, sequence, self.slots) if saved and self._is_plain else saved

    def restore(self, sequence: int, state: memoryview, length: int) -> bool:
        """Put keys and values back; llama.cpp looks at their types and shapes itself."""
        whole = streams.joined(state, sequence, self.slots) if self._is_plain else state
        data = np.frombuffer(whole, np.uint8)
        pointer, number = _pointer(data, ctypes.c_uint8), cast("Any", sequence)
        self.keep(sequence, 0)
        count = llama_cpp.llama_state_seq_set_data(self._context, pointer, len(data), number)
        first = llama_cpp.llama_memory_seq_pos_min(self._memory, sequence)
        last = llama_cpp.llama_memory_seq_pos_max(self._memory, sequence)
        if count == len(data) and (first, last) == (0, length - 1):
            return True
        self.keep(sequence, 0)
        return False

    def embed(self, sequence: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return the model's own pooling of the text, or the mean where it has none."""
        if self._pooling != llama_cpp.LLAMA_POOLING_TYPE_NONE and len(tokens) > STEP_TOKENS:
            raise EngineError(
                "context_length_exceeded",
                f"this model embeds texts of up to {STEP_TOKENS} tokens, found {len(tokens)}:"
                " send shorter ones, or ask for them to be truncated",
            )
        self.keep(sequence, 0)
        llama_cpp.llama_set_embeddings(self._context, True)  # noqa: FBT003 - C
        try:
            vector = self._pooled(sequence, tokens)
        finally:
            llama_cpp.llama_set_embeddings(self._context, False)  # noqa: FBT003 - C
            self.keep(sequence, 0)
        length = float(np.linalg.norm(vector))
        return (vector / length if length > 0 else vector).astype(np.float32)

    def use_threads(self, count: int) -> None:
        """Compute prompts and answers with so many, of those that there are."""
        count = min(count, self._threads)
        llama_cpp.llama_set_n_threads(self._context, count, count)

    def close(self) -> None:
        """Free the model and its context."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def _parameters(self, source: Load) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = self.context * source.slots
        parameters.n_batch = parameters.n_ubatch = STEP_TOKENS
        parameters.n_seq_max = source.slots
        parameters.n_threads = parameters.n_threads_batch = source.threads
        parameters.kv_unified = False
        parameters.flash_attn_type = _FLASH_ATTENTION
        parameters.type_k = parameters.type_v = _KV_TYPES[source.kv_type]
        return parameters

    def _loaded_adapter(self, source: AdapterFile) -> Any:
        _complaints.clear()
        handle = llama_cpp.llama_adapter_lora_init(self._model, source.path.encode())
        if not handle:
            raise _load_failed(f"the adapter {source.name!r}")
        return handle

    def _compute(self, count: int) -> None:
        result: int = llama_cpp.llama_decode(self._context, self._batch.of(count))
        if result != 0:
            reason = "; ".join(_complaints)
            raise EngineError("engine_error", f"llama.cpp failed at a step ({result}): {reason}")
        llama_cpp.llama_synchronize(self._context)

    def _pooled(self, sequence: int, tokens: Sequence[int]) -> NDArray[np.float64]:
        total = np.zeros(self.embedding_length, np.float64)
        for start in range(0, len(tokens), STEP_TOKENS):
            part = tokens[start : start + STEP_TOKENS]
            self._batch.add(0, Run(sequence, start, part, len(part)))
            self._compute(len(part))
            if self._pooling == llama_cpp.LLAMA_POOLING_TYPE_NONE:
                for at in range(len(part)):
                    total += self._vector(llama_cpp.llama_get_embeddings_ith(self._context, at))
            else:
                total = self._vector(llama_cpp.llama_get_embeddings_seq(self._context, sequence))
        return total

    def _vector(self, pointer: Any) -> NDArray[np.float64]:
        if not pointer:
            raise EngineError("not_supported", "this model makes no embeddings")
        return np.ctypeslib.as_array(pointer, (self.embedding_length,)).astype(np.float64)


class _Batch:
    """A llama_batch over arrays that are made once."""

    def __init__(self, size: int) -> None:
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._sequences = np.zeros(size, np.int32)
        self._counts = np.ones(size, np.int32)  # of sequences that a token belongs to
        self._wanted = np.zeros(size, np.int8)
        addresses = self._sequences.ctypes.data + 4 * np.arange(size, dtype=np.uint64)
        self._pointers = addresses.astype(np.uint64)
        self._batch: Any = llama_cpp.llama_batch()
        self._batch.embd = None
        self._batch.token = _pointer(self._tokens, ctypes.c_int32)
        self._batch.pos = _pointer(self._positions, ctypes.c_int32)
        self._batch.n_seq_id = _pointer(self._counts, ctypes.c_int32)
        self._batch.seq_id = _pointer(self._pointers, ctypes.POINTER(ctypes.c_int32))
        self._batch.logits = _pointer(self._wanted, ctypes.c_int8)

    def add(self, at: int, run: Run) -> int:
        """Put a run at the place `at`; return the next place."""
        count = len(run.tokens)
        end = at + count
        self._tokens[at:end] = run.tokens
        self._positions[at:end] = np.arange(run.start, run.start + count)
        self._sequences[at:end] = run.sequence
        self._wanted[at:end] = 0
        if run.rows:
            self._wanted[end - run.rows : end] = 1
        return end

    def of(self, count: int) -> Any:
        """Return the batch of the first `count` tokens."""
        self._batch.n_tokens = count
        return self._batch


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


def _load_failed(what: str = "the model file") -> EngineError:
    reason = "; ".join(_complaints) or "it gives no reason"
    return EngineError("load_failed", f"llama.cpp cannot load {what}: {reason}")


def _adjustments(sampling: Sampling, vocabulary: LlamaVocabulary) -> Iterator[Any]:
    """Yield the samplers that change logits before a token is chosen from them."""
    count = vocabulary.size
    if sampling.logit_bias:
        known = [(token, bias) for token, bias in sampling.logit_bias if 0 <= token < count]
        biases = (cast("Any", llama_cpp.llama_logit_bias) * len(known))(*known)
        yield llama_cpp.llama_sampler_init_logit_bias(count, len(known), biases)
    penalties = (
        sampling.repeat_penalty,
        sampling.frequency_penalty,
        sampling.presence_penalty,
    )
    if penalties != (1.0, 0.0, 0.0):
        yield llama_cpp.llama_sampler_init_penalties(count, sampling.penalty_window, *penalties)


def _choice(sampling: Sampling) -> Iterator[Any]:
    """Yield the samplers that choose."""
    if sampling.temperature < _LEAST_TEMPERATURE:
        yield llama_cpp.llama_sampler_init_greedy()
        return
    yield llama_cpp.llama_sampler_init_top_k(sampling.top_k)
    yield llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1)
    yield llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1)
    yield llama_cpp.llama_sampler_init_temp(sampling.temperature)
    yield llama_cpp.llama_sampler_init_dist(_seed(sampling.seed))


def _seed(seed: int | None) -> int:
    return secrets.randbits(_SEED_BITS) if seed is None else seed % (1 << _SEED_BITS)
