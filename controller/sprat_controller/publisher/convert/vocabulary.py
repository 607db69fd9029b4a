"""The tokens of a model, with their types: byte-level ones (`gpt2`) and SentencePiece's (`llama`).

Token ids are indices. Where a model has rows for more tokens than its tokenizer, the rest is filled
with tokens that no text becomes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sprat_controller.publisher.convert import sentencepiece
from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.pre_tokenizer import has_space_prefix, pre_tokenizer
from sprat_controller.publisher.convert.sentencepiece import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
)
from sprat_controller.publisher.convert.tokenizer_files import (
    AddedToken,
    BytePairs,
    Tokenizer,
    TokenizerFiles,
)

_SPACE: Final = "\u2581"  # SentencePiece's
_BYTE_SPACE: Final = "\u0120"  # the byte-level alphabet's
_BYTE_TOKEN: Final = re.compile(r"<0x[0-9A-F]{2}>")
_NO_SCORE: Final = -10_000.0
_ADDED_SCORE: Final = -1000.0
# Control tokens that some tokenizers do not mark as special.
_SPECIAL: Final = re.compile(
    "<pad>|<mask>|<2mass>|\\[@BOS@\\]|<\\|.*\\|>|<\uff5c.*\uff5c>|<unused.*>", re.DOTALL
)


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF says of tokens.

    Attributes:
        model: `gpt2` or `llama`.
        pre: llama.cpp's name of the pre-tokenizer.
        tokens: By id.
        types: By id.
        scores: By id; only for `llama`.
        merges: Best first; only for `gpt2`.
        has_space_prefix: Whether a space goes before each text; None leaves it to the model.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]
    has_space_prefix: bool | None = None


def vocabulary(architecture: str, files: TokenizerFiles, size: int, pre: str | None) -> Vocabulary:
    """Return the vocabulary of a model.

    Args:
        architecture: As a GGUF calls it.
        files: The tokenizer.
        size: How many rows the embedding has.
        pre: The pre-tokenizer's name, where the publisher says it.

    Raises:
        ConvertError: The tokenizer is not known, or does not fit the embedding.
    """
    is_bytes = architecture == "phi3" and files.config.tokenizer_class == "GPT2Tokenizer"
    tokenizer = files.tokenizer
    if tokenizer is not None and (
        is_bytes or (files.sentencepiece is None and not tokenizer.model.byte_fallback)
    ):
        return _byte_level(architecture, tokenizer, files, size=size, pre=pre)
    if pre is not None:
        raise ConvertError(
            f"expected `pre` with a byte-level tokenizer, found {pre[:64]!r} with SentencePiece"
        )
    return _SentencePiece(architecture, files, size).result()


def _byte_level(
    architecture: str, tokenizer: Tokenizer, files: TokenizerFiles, *, size: int, pre: str | None
) -> Vocabulary:
    model = tokenizer.model
    if model.continuing_subword_prefix or model.end_of_word_suffix or model.dropout:
        raise ConvertError("expected byte pairs without affixes and dropout, found some")
    name = pre_tokenizer(tokenizer, pre)
    tokens = _by_id(model, size)
    added = _added(tokenizer, files)
    for number, one in added.items():
        if tokens.setdefault(number, one.content) != one.content:
            raise ConvertError(
                f"expected token {number} to be {tokens[number][:64]!r},"
                f" found it as {one.content[:64]!r} too"
            )
    if max(tokens, default=0) >= size:
        raise ConvertError(f"expected token ids below {size} (vocab_size), found {max(tokens)}")
    texts = [tokens.get(number, f"[PAD{number}]") for number in range(size)]
    types = [NORMAL if number in tokens else UNUSED for number in range(size)]
    for number, one in added.items():
        types[number] = CONTROL if _is_control(one) else USER_DEFINED
        if types[number] == USER_DEFINED:
            texts[number] = one.content.replace(_SPACE, " ")
    merges = [" ".join(pair) for pair in _merges(model, " ", _BYTE_SPACE)]
    told = files.config.add_prefix_space if architecture == "llama" else None
    return Vocabulary("gpt2", name, texts, types, [], merges, told)


def _by_id(model: BytePairs, size: int) -> dict[int, str]:
    tokens = {number: text for text, number in model.vocab.items()}
    if len(tokens) != len(model.vocab):
        raise ConvertError("expected each token id once in tokenizer.json, found one twice")
    highest = max(tokens, default=0)
    if highest >= size:
        raise ConvertError(f"expected token ids below {size} (vocab_size), found {highest}")
    return tokens


def _merges(model: BytePairs, space: str, written: str) -> list[tuple[str, str]]:
    """Return the pairs that become one; of parts and wholes that are tokens."""
    pairs: list[tuple[str, str]] = []
    for merge in model.merges:
        left, right = (merge.partition(" ")[::2]) if isinstance(merge, str) else merge
        if not {left, right, left + right} <= model.vocab.keys():
            raise ConvertError(
                f"expected merges of tokens to a token, found {left[:32]!r} and {right[:32]!r}"
            )
        pairs.append((left.replace(space, written), right.replace(space, written)))
    return pairs


def _added(tokenizer: Tokenizer | None, files: TokenizerFiles) -> dict[int, AddedToken]:
    """Return the added tokens by id; those of tokenizer_config.json last, as transformers does."""
    return _listed(tokenizer) | _decoder(files)


def _listed(tokenizer: Tokenizer | None) -> dict[int, AddedToken]:
    added = tokenizer.added_tokens if tokenizer else []
    return {one.id: one for one in added if one.id is not None}


def _decoder(files: TokenizerFiles) -> dict[int, AddedToken]:
    decoder = files.config.added_tokens_decoder
    wrong = next((key for key in decoder if not re.fullmatch(r"[0-9]{1,9}", key)), None)
    if wrong is not None:
        raise ConvertError(f"expected token ids in added_tokens_decoder, found {wrong[:64]!r}")
    return {int(key): one for key, one in decoder.items()}


def _is_control(token: AddedToken) -> bool:
    return token.special or _SPECIAL.fullmatch(token.content) is not None


class _SentencePiece:
    """A vocabulary that is filled from what comes first to what has the last word."""

    def __init__(self, architecture: str, files: TokenizerFiles, size: int) -> None:
        self._architecture = architecture
        self._files = files
        self._tokens = [f"[PAD{number}]" for number in range(size)]
        self._scores = [_NO_SCORE] * size
        self._types = [UNUSED] * size

    def result(self) -> Vocabulary:
        files, tokenizer = self._files, self._files.tokenizer
        is_phi = self._architecture == "phi3"
        if files.sentencepiece is not None:
            has_prefix = self._take_pieces(files.sentencepiece)
        elif tokenizer is not None:
            has_prefix = has_space_prefix(tokenizer)
            self._take_pairs(tokenizer.model)
            self._take_added(_added(tokenizer, files))
        else:
            raise RuntimeError("a tokenizer without files")
        for text, number in files.added.items():
            self._set(number, text, _ADDED_SCORE, USER_DEFINED)
        # transformers 5 writes no decoder any more: all is in tokenizer.json.
        self._take_added(_decoder(files) or _listed(tokenizer))
        if is_phi:
            self._take_added(_listed(tokenizer))
        return Vocabulary(
            "llama",
            "default",
            self._tokens,
            self._types,
            self._scores,
            [],
            self._space_prefix(has_prefix=has_prefix),
        )

    def _space_prefix(self, *, has_prefix: bool) -> bool | None:
        """Return what llama.cpp should be told; it takes for granted that there is a prefix."""
        if self._architecture == "gemma3":
            return False
        told = self._files.config.add_prefix_space if self._architecture == "llama" else None
        return told if told is not None else (None if has_prefix else False)

    def _set(self, number: int, text: str, score: float, kind: int) -> None:
        if number >= len(self._tokens):
            return  # no row of the embedding stands for it, so no text can become it
        self._tokens[number], self._scores[number], self._types[number] = text, score, kind

    def _take_pieces(self, data: bytes) -> bool:
        found = sentencepiece.parse(data)
        for number, piece in enumerate(found.pieces):
            kind = NORMAL if piece.type == USER_DEFINED else piece.type
            self._set(number, piece.text, piece.score, kind)
        return found.has_prefix

    def _take_pairs(self, model: BytePairs) -> None:
        """Give each token the score by which llama.cpp merges in the order of the pairs."""
        order = dict.fromkeys(left + right for left, right in _merges(model, " ", " "))
        scores = {text: -float(rank) for rank, text in enumerate(order)}
        for number, text in _by_id(model, len(self._tokens)).items():
            if text == model.unk_token:
                self._set(number, text, 0.0, UNKNOWN)
            elif _BYTE_TOKEN.fullmatch(text):
                self._set(number, text, 0.0, BYTE)
            else:
                self._set(number, text, scores.get(text, _NO_SCORE), NORMAL)

    def _take_added(self, added: Mapping[int, AddedToken]) -> None:
        is_phi = self._architecture == "phi3"
        for number, one in added.items():
            is_control = one.special if is_phi else _is_control(one)
            text = one.content if is_control or is_phi else one.content.replace(_SPACE, " ")
            self._set(number, text, _ADDED_SCORE, CONTROL if is_control else USER_DEFINED)
