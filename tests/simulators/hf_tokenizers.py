"""Tiny tokenizers in the files that transformers and SentencePiece write, for `hf_models`."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

TEXT: Final = (
    "the model answers the question and the answer is in the model 12345 123 1234567 "
    "The quick brown fox jumps over the lazy dog, and it's the dog's fault; we're they'll I'VE "
    "Hello HELLO helloWorld über straße naïve 世界 世界 the there then these  two  spaces"
)
CHAT: Final = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPACE: Final = "\u2581"

_CL100K: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2: Final = _CL100K.replace("{1,3}", "")
_O200K: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MERGES: Final = 90


@dataclass(frozen=True)
class TokenizerFolder:
    """The files, and what llama.cpp calls the pre-tokenizer."""

    files: Mapping[str, bytes]
    pre: str = "default"


def byte_level(
    pre: str, *, tokenizer_class: str = "PreTrainedTokenizerFast", is_framed: bool = False
) -> TokenizerFolder:
    """Bytes and merges of them, cut as llama.cpp's `pre` cuts; framed texts end with a token."""
    words = [_encoded(word) for word in _words(TEXT)]
    merges = _train(words, _MERGES)
    texts = [*_alphabet().values(), *(left + right for left, right in merges)]
    vocab = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    added = [_added(len(vocab) + at, text) for at, text in enumerate(specials)]
    added.append(_added(len(vocab) + len(specials), "<tool_call>", special=False))
    begins = pre == "llama-bpe"
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": _PRE_TOKENIZERS[pre],
        "post_processor": _end(added[0]) if is_framed else _POST_PROCESSORS[pre](added[0]),
        "decoder": {"type": "ByteLevel", **_LEVEL, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": begins,
            "vocab": vocab,
            "merges": [list(pair) if pre == "qwen2" else " ".join(pair) for pair in merges],
        },
    }
    config = {
        "tokenizer_class": tokenizer_class,
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "added_tokens_decoder": _decoder(added),
        "chat_template": CHAT,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }
    return TokenizerFolder(_files(tokenizer=tokenizer, config=config), pre)


def sentencepiece(*, has_model: bool = True, has_json: bool = True) -> TokenizerFolder:
    """A tokenizer such as llama 2's: bytes, a space before each text."""
    heads = (("<unk>", 2), ("<s>", 3), ("</s>", 3), ("<|im_start|>", 4), ("<|im_end|>", 4))
    added = [_added(at, text, special=kind != 4) for at, (text, kind) in enumerate(heads)]
    normalizer = {
        "type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": SPACE}, _SPACES],
    }
    return _sentencepiece(
        heads,
        added,
        {"normalizer": normalizer, "pre_tokenizer": None, "post_processor": _begin(added[1])},
        {
            "tokenizer_class": "LlamaTokenizer",
            "bos_token": {"__type": "AddedToken", **_plain(added[1])},
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "add_bos_token": True,
            "add_eos_token": False,
            "legacy": False,
        },
        has_model=has_model,
        has_json=has_json,
    )


def gemma(*, has_model: bool = True) -> TokenizerFolder:
    """A tokenizer such as gemma 3's: no space before a text."""
    heads = (
        ("<pad>", 3), ("<eos>", 3), ("<bos>", 3), ("<end_of_turn>", 4), ("<unk>", 2),
        ("<start_of_turn>", 4), (SPACE * 2, 4), ("<unused0>", 4), ("\n\n", 4),
    )  # fmt: skip
    added = [_added(at, text, special=kind in {2, 3}) for at, (text, kind) in enumerate(heads)]
    return _sentencepiece(
        heads,
        added,
        {
            "normalizer": _SPACES,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"String": " "},
                "behavior": "MergedWithPrevious",
                "invert": False,
            },
            "post_processor": _begin(added[2]),
        },
        {
            "tokenizer_class": "GemmaTokenizer",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
            "add_bos_token": True,
            "add_eos_token": False,
        },
        first_merges=((SPACE, SPACE),),
        has_model=has_model,
        has_prefix=False,
    )


def phi3(*, has_model: bool = True) -> TokenizerFolder:
    """A tokenizer such as phi 3's: llama 2's, with tokens after it that are not in the model."""
    heads = (("<unk>", 2), ("<s>", 3), ("</s>", 3))
    plain = _pieces(heads, has_prefix=True)
    late = ("<|endoftext|>", "<|assistant|>", "<|user|>", "<|end|>")
    added = [_added(at, text, special=True) for at, (text, _) in enumerate(heads)]
    added += [_added(len(plain) + at, text) for at, text in enumerate(late)]
    normalizer = {
        "type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": SPACE}, _SPACES],
    }
    return _sentencepiece(
        heads,
        added,
        {"normalizer": normalizer, "pre_tokenizer": None, "post_processor": _begin(added[1])},
        {
            "tokenizer_class": "LlamaTokenizer",
            "bos_token": "<s>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<unk>",
            "add_bos_token": True,
            "add_eos_token": False,
        },
        has_model=has_model,
    )


_LEVEL: Final = {"add_prefix_space": False, "trim_offsets": True}
_BYTES_ONLY: Final = {"type": "ByteLevel", **_LEVEL, "use_regex": False}
_BYTES_AND_WORDS: Final = {"type": "ByteLevel", **_LEVEL, "use_regex": True}
_BYTES_AFTER: Final = {"type": "ByteLevel", **_LEVEL, "use_regex": False}
_SPACES: Final = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}


def _split(pattern: str, *, is_inverted: bool = False) -> dict[str, Any]:
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Removed" if is_inverted else "Isolated",
        "invert": is_inverted,
    }
    return {"type": "Sequence", "pretokenizers": [split, _BYTES_ONLY]}


# What is put around a text; llama 3's has two steps.
_POST_PROCESSORS: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "gpt-2": lambda _: _BYTES_AFTER,
    "llama-bpe": lambda first: {
        "type": "Sequence",
        "processors": [_BYTES_AFTER, _begin(first)],
    },
    "dbrx": lambda _: _BYTES_AFTER,
    "qwen2": lambda _: _BYTES_AFTER,
    "gpt-4o": lambda _: _BYTES_AFTER,
    "smollm": lambda _: None,
}
_PRE_TOKENIZERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "gpt-2": _BYTES_AND_WORDS,
    "llama-bpe": _split(_CL100K),
    "dbrx": _split(_CL100K, is_inverted=True),
    "qwen2": _split(_QWEN2),
    "gpt-4o": _split(_O200K, is_inverted=True),
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTES_AND_WORDS],
    },
}


def _sentencepiece(
    heads: Sequence[tuple[str, int]],
    added: Sequence[Mapping[str, Any]],
    steps: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    first_merges: Sequence[tuple[str, str]] = (),
    has_model: bool = True,
    has_json: bool = True,
    has_prefix: bool = True,
) -> TokenizerFolder:
    pieces = _pieces(heads, has_prefix=has_prefix)
    scores = {text: score for text, score, kind in pieces if kind == 1}
    merges = sorted(
        ((word[:at], word[at:]) for word in scores for at in range(1, len(word))
         if word[:at] in scores and word[at:] in scores),
        key=lambda pair: (-scores["".join(pair)], len(pair[0])),
    )  # fmt: skip
    tokenizer = {
        "version": "1.0",
        "added_tokens": list(added),
        **steps,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {text: number for number, (text, _, _) in enumerate(pieces)},
            "merges": [" ".join(pair) for pair in (*first_merges, *merges)],
        },
    }
    settings = {
        **config,
        "added_tokens_decoder": _decoder(added),
        "chat_template": CHAT,
        "clean_up_tokenization_spaces": False,
    }
    model = _protobuf(pieces, has_prefix=has_prefix) if has_model else None
    return TokenizerFolder(
        _files(tokenizer=tokenizer if has_json else None, config=settings, model=model)
    )


def _pieces(heads: Sequence[tuple[str, int]], *, has_prefix: bool) -> list[tuple[str, float, int]]:
    """Return text, score and type of each piece: heads, bytes, merged ones, characters."""
    words = [word.replace(" ", SPACE) for word in _words((" " if has_prefix else "") + TEXT)]
    merged = [left + right for left, right in _train([list(word) for word in words], _MERGES)]
    merged = [text for text in dict.fromkeys(merged) if text not in {text for text, _ in heads}]
    letters = sorted({letter for word in words for letter in word})
    return [
        *((text, 0.0, kind) for text, kind in heads),
        *((f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)),
        *((text, -float(rank), 1) for rank, text in enumerate([*merged, *letters])),
    ]


def _protobuf(pieces: Iterable[tuple[str, float, int]], *, has_prefix: bool) -> bytes:
    """Return a `tokenizer.model` of byte pairs."""
    data = b""
    for text, score, kind in pieces:
        word = text.encode()
        piece = _field(1, word) + b"\x15" + struct.pack("<f", score) + b"\x18" + _varint(kind)
        data += _field(1, piece)
    numbers = {3: 2, 4: 1, 35: 1}  # byte pairs, any size, bytes for what has no token
    trainer = b"".join(_varint(number << 3) + _varint(value) for number, value in numbers.items())
    normalizer = _field(1, b"identity") + b"\x18" + _varint(has_prefix) + b"\x20\x00\x28\x01"
    return data + _field(2, trainer) + _field(3, normalizer)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _added(number: int, text: str, *, special: bool = True) -> dict[str, Any]:
    return {
        "id": number,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def _decoder(added: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(one["id"]): _plain(one) for one in added}


def _plain(added: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in added.items() if key != "id"}


def _begin(token: Mapping[str, Any]) -> dict[str, Any]:
    """A post-processor that puts a token before each text."""
    text = token["content"]
    special = {"SpecialToken": {"id": text, "type_id": 0}}
    one, two = ({"Sequence": {"id": letter, "type_id": at}} for at, letter in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [special, one],
        "pair": [special, one, special, two],
        "special_tokens": {text: {"id": text, "ids": [token["id"]], "tokens": [text]}},
    }


def _end(token: Mapping[str, Any]) -> dict[str, Any]:
    """A post-processor that puts a token after each text."""
    text = token["content"]
    special = {"SpecialToken": {"id": text, "type_id": 0}}
    one, two = ({"Sequence": {"id": letter, "type_id": at}} for at, letter in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [one, special],
        "pair": [one, special, two, special],
        "special_tokens": {text: {"id": text, "ids": [token["id"]], "tokens": [text]}},
    }


def _files(
    *, config: Any, tokenizer: Any | None = None, model: bytes | None = None
) -> dict[str, bytes]:
    files = {"tokenizer_config.json": _json(config)}
    if tokenizer is not None:
        files["tokenizer.json"] = _json(tokenizer)
    if model is not None:
        files["tokenizer.model"] = model
    return files


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _words(text: str) -> list[str]:
    """Cut a text before each space."""
    return [word for word in text.replace(" ", "\0 ").split("\0") if word]


def _alphabet() -> dict[int, str]:
    """Return a printable character for each byte, as GPT-2 has it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + at) for at, byte in enumerate(others)
    }


def _encoded(word: str) -> list[str]:
    alphabet = _alphabet()
    return [alphabet[byte] for byte in word.encode()]


def _train(words: Sequence[Sequence[str]], count: int) -> list[tuple[str, str]]:
    """Return the pairs that are most frequent, one after the other."""
    parts = [list(word) for word in words]
    merges: list[tuple[str, str]] = []
    for _ in range(count):
        pairs = Counter(pair for word in parts for pair in pairwise(word))
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        parts = [_merged(word, best) for word in parts]
    return merges


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for part in word:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result
