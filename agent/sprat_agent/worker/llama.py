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

from sprat_agent.runtime.wire import Conversation, Load, Message, Request, Sampling, Text, Tokens
from sprat_agent.worker.decoding.stops import StopFilter
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.prompting.rendering import MAX_PROMPT, bounded
from sprat_agent.worker.serial import Finished, Generation

PREFILL_CHUNK: Final = 256  # tokens between two moments at which a request can be cancelled
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
    """One GGUF model and one sequence; see `serial.SerialModel`.

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

    def generate(self, request: Request) -> Generation:
        """Yield the answer's text token by token."""
        llama = self._loaded()
        _refuse_unsupported(request)
        prompt = self._prompt(llama, request)
        room = self._context - len(prompt)
        limit = room if request.max_tokens is None else min(request.max_tokens, room)
        began = time.perf_counter()
        for chunk in _chunks(self._reuse(llama, prompt, is_fresh=request.is_fresh)):
            llama.eval(chunk)
            yield ""
        prefilled = time.perf_counter()
        count, is_stopped = yield from self._decode(llama, request, limit)
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

    def _prompt(self, llama: llama_cpp.Llama, request: Request) -> list[int]:
        match request.prompt:
            case Conversation(messages=turns):
                tokens = self._tokens(llama, self._render(turns))
            case Text(text=text):
                tokens = self._tokens(llama, text)
            case Tokens(tokens=given):
                tokens = self._known(given)
        return self._fitting(tokens)

    def _render(self, turns: Sequence[Message]) -> str:
        messages: Any = [{"role": one.role, "content": one.content} for one in turns]
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
        return text

    def _tokens(self, llama: llama_cpp.Llama, text: str) -> list[int]:
        return llama.tokenize(text.encode(), add_bos=False, special=True)

    def _known(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens, if the model has them all: llama.cpp ends the process otherwise."""
        count = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        for token in tokens:
            if not 0 <= token < count:
                message = f"expected tokens from 0 to {count - 1}, found {token}"
                raise EngineError("messages_refused", message)
        return list(tokens)

    def _fitting(self, tokens: list[int]) -> list[int]:
        if not tokens:
            raise EngineError("messages_refused", "expected some text to answer, found none")
        if len(tokens) >= self._context:
            raise EngineError(
                "context_length_exceeded",
                f"this model's context is {self._context} tokens;"
                f" the prompt takes {len(tokens)} and leaves none for an answer",
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

    def _decode(self, llama: llama_cpp.Llama, request: Request, limit: int) -> _Decoding:
        """Yield text; return the number of tokens and whether the model or a text stopped it."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        stops = StopFilter(request.stop)
        with _sampler(request, self._vocabulary) as sampler:
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
def _sampler(request: Request, vocabulary: Any) -> Generator[Any]:
    """A llama.cpp sampler chain for one request, freed at the end."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for step in (*_adjustments(request.sampling, vocabulary), *_choice(request.sampling)):
        llama_cpp.llama_sampler_chain_add(chain, step)
    try:
        yield chain
    finally:
        llama_cpp.llama_sampler_free(chain)


def _adjustments(sampling: Sampling, vocabulary: Any) -> Iterator[Any]:
    """Yield the samplers that change logits before a token is chosen from them."""
    count = llama_cpp.llama_vocab_n_tokens(vocabulary)
    if sampling.logit_bias:
        known = [(token, bias) for token, bias in sampling.logit_bias if 0 <= token < count]
        biases = (llama_cpp.llama_logit_bias * len(known))(*known)
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
    if sampling.temperature <= 0:
        yield llama_cpp.llama_sampler_init_greedy()
        return
    yield llama_cpp.llama_sampler_init_top_k(sampling.top_k)
    yield llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1)
    yield llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1)
    yield llama_cpp.llama_sampler_init_temp(sampling.temperature)
    yield llama_cpp.llama_sampler_init_dist(_seed(sampling.seed))


def _seed(seed: int | None) -> int:
    return secrets.randbits(_SEED_BITS) if seed is None else seed % (1 << _SEED_BITS)


def _refuse_unsupported(request: Request) -> None:
    """Refuse what would change the answer and is not done here.

    Raises:
        EngineError: not_supported.
    """
    prompt = request.prompt
    asked = {
        "a JSON schema": request.schema is not None,
        "log probabilities": request.logprobs is not None,
        "an adapter": bool(request.adapter),
        "the prompt before the answer": request.is_echoed,
        "tools": isinstance(prompt, Conversation) and bool(prompt.tools),
    }
    for what, is_asked in asked.items():
        if is_asked:
            raise EngineError("not_supported", f"this engine does not do {what}: leave it out")


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
