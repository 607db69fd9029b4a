# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# llama-cpp-python's low-level bindings are untyped ctypes.
"""The only import of llama.cpp: `llama_cpp.Llama`, one request at a time."""

from __future__ import annotations

import codecs
import ctypes
import secrets
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import jinja2
import llama_cpp
import llama_cpp.llama_chat_format as chat_format

from sprat_agent.runtime.wire import Chat, Load
from sprat_agent.worker.decoding.stops import StopFilter
from sprat_agent.worker.engine import EngineError, Finished, Generation
from sprat_agent.worker.prompting.rendering import MAX_PROMPT, bounded

PREFILL_CHUNK: Final = 256  # tokens between two moments at which a request can be cancelled
_TOP_K: Final = 40  # llama.cpp's defaults
_MIN_P: Final = 0.05
_SEED_BITS: Final = 32
_COMPLAINTS: Final = (3, 4)  # ggml_log_level: warning, error
_TEMPLATE_KEY: Final = "tokenizer.chat_template"

_Decoding: TypeAlias = Generator[str, None, tuple[int, bool]]


# The last warnings: the reason why a load failed is only there. One for the process, as the C
# library keeps one pointer to the callback for ever.
_complaints: Final[deque[str]] = deque(maxlen=4)


@llama_cpp.llama_log_callback
def _take_log(level: int, text: bytes, _user_data: Any) -> None:
    line = text.decode("utf-8", "replace").strip()
    if level in _COMPLAINTS and line:
        _complaints.append(line)


llama_cpp.llama_log_set(_take_log, ctypes.c_void_p(0))


class _Llama(llama_cpp.Llama):
    """Llama without the templates that are in the file: its constructor would compile them all.

    A template is a program, and the one that counts is signed in the manifest (CVE-2024-34359).
    """

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself, but for templates."""
        return self._kept

    @metadata.setter
    def metadata(self, found: dict[str, str]) -> None:
        self._kept = {
            key: value for key, value in found.items() if not key.startswith(_TEMPLATE_KEY)
        }


class LlamaModel:
    """One GGUF model and one sequence; see `engine.SerialModel`.

    The beginning of a prompt that equals what the cache holds from the last request is not computed
    again, so the turns of one conversation cost only what is new.
    """

    def __init__(self) -> None:
        self._llama: llama_cpp.Llama | None = None
        self._context = 0

    def load(self, source: Load) -> int:
        """Load the model file; a context longer than the model was trained for is cut."""
        _complaints.clear()
        try:
            self._llama = _Llama(
                model_path=source.path,
                n_ctx=source.context,
                n_threads=source.threads,
                n_threads_batch=source.threads,
                flash_attn=True,
                verbose=False,
            )
        except (ValueError, RuntimeError) as error:
            reason = "; ".join(_complaints) or str(error)
            message = f"llama.cpp cannot load the model file: {reason}"
            raise EngineError("load_failed", message) from error
        trained = llama_cpp.llama_model_n_ctx_train(self._llama.model)
        self._context = min(source.context, trained) if trained > 0 else source.context
        self._vocabulary: Any = llama_cpp.llama_model_get_vocab(self._llama.model)
        self._piece = ctypes.create_string_buffer(512)
        self._template = _template(self._llama, source.template)
        return self._context

    def generate(self, chat: Chat) -> Generation:
        """Yield the answer's text token by token."""
        llama = self._loaded()
        prompt = self._prompt(llama, chat)
        room = self._context - len(prompt)
        limit = room if chat.max_tokens is None else min(chat.max_tokens, room)
        began = time.perf_counter()
        for chunk in _chunks(self._reuse(llama, prompt, is_fresh=chat.is_fresh)):
            llama.eval(chunk)
            yield ""
        prefilled = time.perf_counter()
        count, is_stopped = yield from self._decode(llama, chat, limit)
        return Finished(
            finish="stop" if is_stopped else "length",
            prompt_tokens=len(prompt),
            completion_tokens=count,
            prefill_s=prefilled - began,
            decode_s=time.perf_counter() - prefilled,
        )

    def close(self) -> None:
        """Free the model and its cache."""
        if self._llama is not None:
            self._llama.close()
            self._llama = None

    def _loaded(self) -> llama_cpp.Llama:
        if self._llama is None:
            raise RuntimeError("generate was called before load")
        return self._llama

    def _prompt(self, llama: llama_cpp.Llama, chat: Chat) -> list[int]:
        messages: Any = [{"role": one.role, "content": one.content} for one in chat.messages]
        if self._template is None:
            raise EngineError(
                "messages_refused",
                "expected a chat template in the release's manifest, found none: messages cannot be"
                " put to this model; publish it with --chat-template",
            )
        template = self._template
        try:
            text = bounded(lambda: template(messages=messages).prompt)
        except Exception as error:
            # A template is a program and may raise anything.
            message = f"the release's chat template refuses these messages: {error}"
            raise EngineError("messages_refused", message) from error
        if len(text) > MAX_PROMPT:
            raise EngineError(
                "messages_refused",
                f"expected a prompt of at most {MAX_PROMPT} characters from the release's chat"
                f" template, found {len(text)}",
            )
        tokens = llama.tokenize(text.encode(), add_bos=False, special=True)
        if not tokens:
            raise EngineError("messages_refused", "expected some text to answer, found none")
        if len(tokens) >= self._context:
            raise EngineError(
                "context_length_exceeded",
                f"this model's context is {self._context} tokens;"
                f" the messages take {len(tokens)} and leave none for an answer",
            )
        return tokens

    def _reuse(self, llama: llama_cpp.Llama, prompt: list[int], *, is_fresh: bool) -> list[int]:
        """Keep what the cache has of the prompt; return the rest, at least one token."""
        cached = [] if is_fresh else llama.input_ids[: llama.n_tokens].tolist()
        keep = min(_common(cached, prompt), len(prompt) - 1)
        memory: Any = llama_cpp.llama_get_memory(llama.ctx)
        if keep and not llama_cpp.llama_memory_seq_rm(memory, 0, keep, -1):
            keep = 0  # a recurrent model cannot go back
        if not keep:
            llama.reset()
        llama.n_tokens = keep
        return prompt[keep:]

    def _decode(self, llama: llama_cpp.Llama, chat: Chat, limit: int) -> _Decoding:
        """Yield text; return the number of tokens and whether the model or a text stopped it."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        stops = StopFilter(chat.stop)
        with _sampler(chat) as sampler:
            for count in range(limit):
                token = llama_cpp.llama_sampler_sample(sampler, llama.ctx, -1)
                if llama_cpp.llama_vocab_is_eog(self._vocabulary, token):
                    yield stops.feed(decoder.decode(b"", final=True)) + stops.flush()
                    return count, True
                yield stops.feed(decoder.decode(self._bytes_of(token)))
                if stops.is_stopped:
                    return count + 1, True
                if count + 1 < limit:
                    llama.eval([token])
        yield stops.feed(decoder.decode(b"", final=True)) + stops.flush()
        return limit, stops.is_stopped

    def _bytes_of(self, token: int) -> bytes:
        """Return a token's bytes; control tokens have none."""
        arguments = (self._vocabulary, token, self._piece, len(self._piece), 0, False)
        size = llama_cpp.llama_token_to_piece(*arguments)  # (..., lstrip, special)
        return self._piece.raw[: max(size, 0)]


@contextmanager
def _sampler(chat: Chat) -> Generator[Any]:
    """A llama.cpp sampler chain for one request, freed at the end."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    steps: list[Any] = [llama_cpp.llama_sampler_init_greedy()]
    if chat.temperature > 0:
        seed = secrets.randbits(_SEED_BITS) if chat.seed is None else chat.seed % (1 << _SEED_BITS)
        steps = [
            llama_cpp.llama_sampler_init_top_k(_TOP_K),
            llama_cpp.llama_sampler_init_top_p(chat.top_p, 1),
            llama_cpp.llama_sampler_init_min_p(_MIN_P, 1),
            llama_cpp.llama_sampler_init_temp(chat.temperature),
            llama_cpp.llama_sampler_init_dist(seed),
        ]
    for step in steps:
        llama_cpp.llama_sampler_chain_add(chain, step)
    try:
        yield chain
    finally:
        llama_cpp.llama_sampler_free(chain)


def _template(llama: llama_cpp.Llama, signed: str) -> chat_format.Jinja2ChatFormatter | None:
    """Return the signed chat template, compiled in jinja2's sandbox; None if there is none.

    Raises:
        EngineError: It is not Jinja, or takes too much to compile.
    """
    if not signed:
        return None
    vocabulary: Any = llama_cpp.llama_model_get_vocab(llama.model)
    bos = _text_of(vocabulary, llama_cpp.llama_vocab_bos(vocabulary))
    eos = _text_of(vocabulary, llama_cpp.llama_vocab_eos(vocabulary))
    try:
        return bounded(
            lambda: chat_format.Jinja2ChatFormatter(template=signed, bos_token=bos, eos_token=eos)
        )
    except jinja2.TemplateError as error:
        message = f"the release's chat template is not Jinja: {error}"
        raise EngineError("load_failed", message) from error
    except Exception as error:
        # Jinja computes constants, and Python refuses what is nested too deep.
        message = f"the release's chat template cannot be compiled: {error}"
        raise EngineError("load_failed", message) from error


def _text_of(vocabulary: Any, token: Any) -> str:
    """Return a special token's text; models without it have the token -1."""
    if token < 0:
        return ""
    text: bytes = llama_cpp.llama_vocab_get_text(vocabulary, token)
    return text.decode("utf-8", "replace")


def _chunks(tokens: list[int]) -> Iterator[list[int]]:
    return (tokens[at : at + PREFILL_CHUNK] for at in range(0, len(tokens), PREFILL_CHUNK))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
