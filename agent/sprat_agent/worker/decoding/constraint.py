# pyright: reportUnknownMemberType=false
# llguidance's types are partly unknown.
"""Holding an answer to a grammar: the only import of llguidance.

The library is imported, and the vocabulary read, in a thread of its own: it takes a second for
152,000 tokens, in which other requests go on. Memory for it is spoken for in `sprat_proto.fit`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from sprat_agent.worker.decoding.decoding import Row
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.vocabulary import Vocabulary

if TYPE_CHECKING:
    import llguidance

_SILENT: Final = 0  # log level
# Yields to the threads that compute, and still gets a part of a processor that these keep busy.
_NICE: Final = 5
# What may come inside of a string. llguidance cuts the vocabulary by such expressions to tell what
# may come next without a look at each token. It has four for JSON: the others double memory and
# time, and spare a millisecond a token only in strings of a limited length.
_SLICES: Final = (r'[^"\\\x00-\x1F\x7F]+',)


def nothing() -> None:
    """Nobody waits."""


class Grammars:
    """Compiles grammars over one vocabulary; used from one thread."""

    def __init__(self, vocabulary: Vocabulary, on_ready: Callable[[], None] = nothing) -> None:
        """Read nothing yet.

        Args:
            vocabulary: Read from another thread.
            on_ready: Called from there when it was read, or could not be.
        """
        self._vocabulary = vocabulary
        self._on_ready = on_ready
        self._reading: Future[llguidance.LLTokenizer] | None = None

    @property
    def is_ready(self) -> bool:
        """`constraint` does not wait."""
        return self._reading is not None and self._reading.done()

    def prepare(self) -> Future[llguidance.LLTokenizer]:
        """Begin to read the vocabulary, unless that was begun."""
        if self._reading is None:
            reading: Future[llguidance.LLTokenizer] = Future()
            self._reading = reading
            thread = threading.Thread(
                target=self._read, args=(reading,), name="grammars", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # there is no memory for it
                reading.set_exception(error)
                self._on_ready()
        return self._reading

    def close(self) -> None:
        """Wait until nobody reads the vocabulary."""
        if self._reading:
            wait([self._reading])

    def constraint(self, lark: str, asked: str) -> Constraint:
        """Return a constraint in its first state; wait for the vocabulary to be read.

        Args:
            lark: In llguidance's dialect of Lark, with JSON schemas as `%json {...}`.
            asked: What it was made of, for people.

        Raises:
            EngineError: not_supported: it asks for what cannot be held to.
        """
        tokenizer = self._tokenizer()
        import llguidance  # noqa: PLC0415 - see above

        grammar = llguidance.LLMatcher.grammar_from_lark(lark)
        matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=_SILENT)
        if matcher.is_error():
            reason = _reason(matcher.get_error())
            message = f"this engine cannot hold an answer to {asked}: {reason}"
            raise EngineError("not_supported", message)
        return Constraint(matcher, tokenizer)

    def _tokenizer(self) -> llguidance.LLTokenizer:
        try:
            return self.prepare().result()
        except Exception:
            self._reading = None  # the next request tries again
            raise

    def _read(self, reading: Future[llguidance.LLTokenizer]) -> None:
        with suppress(OSError):  # then it has the priority of the others
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            reading.set_result(_tokenizer_of(self._vocabulary))
        except Exception as error:  # noqa: BLE001 - who needs it is told
            reading.set_exception(error)
        self._on_ready()


def _tokenizer_of(vocabulary: Vocabulary) -> llguidance.LLTokenizer:
    import llguidance  # noqa: PLC0415 - see above

    tokens = _Tokens(vocabulary)
    return llguidance.LLTokenizer(
        llguidance.TokenizerWrapper(tokens), eos_token=tokens.ends, slices=list(_SLICES)
    )


class Constraint:
    """The state of a grammar in one answer."""

    def __init__(self, matcher: llguidance.LLMatcher, tokenizer: llguidance.LLTokenizer) -> None:
        self._matcher = matcher
        self._tokenizer = tokenizer

    @property
    def is_over(self) -> bool:
        """Nothing but an end may come."""
        return self._matcher.is_stopped()

    def mask(self, row: Row) -> None:
        """Give minus infinity to the tokens that may not come next.

        Raises:
            EngineError: engine_error: the grammar became too large.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        allowed = np.unpackbits(bits, count=len(row), bitorder="little")
        row[allowed == 0] = -np.inf

    def take(self, token: int) -> None:
        """Go on by a token.

        Raises:
            EngineError: engine_error: it was not allowed, or the grammar became too large.
        """
        self._matcher.consume_token(token)
        self._check()

    def takes(self, tokens: Sequence[int], data: bytes) -> bool:
        """Go on by tokens and then the bytes of a text, if they are allowed; otherwise stay.

        They are cut into whichever tokens make them: a grammar asks for bytes.
        """
        every = [*tokens, *self._tokenizer.tokenize_bytes(data)]
        if self._matcher.validate_tokens(every) < len(every):
            return False
        for token in every:
            self.take(token)
        return True

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = _reason(self._matcher.get_error())
            raise EngineError("engine_error", f"the answer left its grammar: {reason}")


class _Tokens:
    """A vocabulary as llguidance asks for one.

    A model without a token that ends an answer gets one that no row of logits reaches: its answers
    end where the grammar leaves nothing else.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        numbers = range(vocabulary.size)
        self.tokens = [vocabulary.name(token) for token in numbers]
        self.special_token_ids = [
            token
            for token in numbers
            if vocabulary.is_control(token) or vocabulary.is_end(token) or not self.tokens[token]
        ]
        self.ends = [token for token in numbers if vocabulary.is_end(token)]
        if not self.ends:
            self.ends = [vocabulary.size]
            self.tokens.append(b"<end>")
            self.special_token_ids.append(vocabulary.size)
        self.eos_token_id = self.ends[0]
        self.bos_token_id = None if vocabulary.bos < 0 else vocabulary.bos

    def __call__(self, text: str | bytes) -> list[int]:
        """Return the tokens that make just this text, which the library relies on.

        Some vocabularies put a space before a text; behind a line break they leave the rest alone.
        """
        data = text.encode() if isinstance(text, str) else text
        for before in ("", "\n"):
            whole = before + data.decode("utf-8", "replace")
            cut = self._end_that_makes(data, self._vocabulary.tokenize(whole, has_special=False))
            if cut is not None:
                return cut
        return self._longest_first(data)

    def _end_that_makes(self, data: bytes, tokens: list[int]) -> list[int] | None:
        """Return the last tokens, as many as make the bytes; None if they do not."""
        left = len(data)
        at = len(tokens)
        while left > 0 and at > 0:
            at -= 1
            left -= len(self.tokens[tokens[at]])
        made = b"".join(self.tokens[token] for token in tokens[at:])
        return tokens[at:] if made == data else None

    def _longest_first(self, data: bytes) -> list[int]:
        tokens: list[int] = []
        at = 0
        while at < len(data):
            ends = range(min(len(data), at + self._longest), at, -1)
            end = next((end for end in ends if data[at:end] in self._numbers), None)
            if end is not None:
                tokens.append(self._numbers[data[at:end]])
            at = end or at + 1  # a byte that the model cannot say
        return tokens

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        special = set(self.special_token_ids)
        return {data: at for at, data in enumerate(self.tokens) if at not in special}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._numbers), default=0)


def _reason(error: str) -> str:
    """Return what matters: before it is a place in the grammar, after it the grammar's text."""
    first, *others = error.splitlines() or ["unknown"]
    why = next((f" {line}" for line in others if line.startswith("error: ")), "")
    return first.rpartition("failed to compile JSON schema: ")[2] + why
