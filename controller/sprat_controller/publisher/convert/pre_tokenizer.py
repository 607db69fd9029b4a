"""Which of llama.cpp's pre-tokenizers cuts texts as a tokenizer.json says.

llama.cpp's converter knows a tokenizer by what it makes of one text, so any added token hides it.
Here the description itself is compared; what is not known is refused, and can be named with `pre`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.tokenizer_files import Step, Tokenizer

_SPACE: Final = "\u2581"  # SentencePiece's
_ENDINGS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST: Final = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_MARKS: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|"
_WORD: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_FRONT: Final = r"[^\r\n\p{L}\p{N}]?"

# The patterns of cl100k, of its form with single digits, and of o200k.
_THREE_DIGITS: Final = rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}{_MARKS}{_REST}"
_ONE_DIGIT: Final = rf"{_ENDINGS}|{_WORD}|\p{{N}}{_MARKS}{_REST}"
_CASES: Final = (
    rf"{_FRONT}{_UPPER}*{_LOWER}+{_ENDINGS}?|{_FRONT}{_UPPER}+{_LOWER}*{_ENDINGS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
    rf"{_REST}"
)

# Steps, each as its type and what matters of it; then whether whole words skip the merges.
_Steps = tuple[tuple[str, str | bool], ...]
_BYTES: Final = ("ByteLevel", False)
_BYTES_AND_WORDS: Final = ("ByteLevel", True)
_NAMES: Final[Mapping[tuple[_Steps, bool], str]] = {
    ((_BYTES_AND_WORDS,), False): "gpt-2",
    ((("Split", _THREE_DIGITS), _BYTES), True): "llama-bpe",
    ((("Split", _THREE_DIGITS), _BYTES), False): "dbrx",
    ((("Split", _ONE_DIGIT), _BYTES), False): "qwen2",
    ((("Split", _CASES), _BYTES), False): "gpt-4o",
    ((("Digits", True), _BYTES_AND_WORDS), False): "smollm",
}
# SentencePiece's rules: normalizer, pre-tokenizer, and whether a space goes before each text.
_Seen = tuple[tuple[str, str | None], ...]
_PREFIX: Final = ("Prepend", _SPACE)
_SPACES: Final = ("Replace", _SPACE)
_PREFIXED: Final[Mapping[tuple[_Seen, _Seen], bool]] = {
    ((_PREFIX, _SPACES), ()): True,
    ((_SPACES,), ()): False,
    ((_SPACES,), (("Split", "MergedWithPrevious"),)): False,
    ((), (("Metaspace", "first"),)): True,
    ((), (("Metaspace", "always"),)): True,
    ((), (("Metaspace", "never"),)): False,
}
_GIVEN: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HINT: Final = "name the pre-tokenizer with `pre` if llama.cpp has it under another name"


def pre_tokenizer(tokenizer: Tokenizer, given: str | None) -> str:
    """Return llama.cpp's name (`tokenizer.ggml.pre`) for a byte-level tokenizer.

    Args:
        tokenizer: A byte-level one.
        given: The name, if the publisher knows it; nothing is compared then.

    Raises:
        ConvertError: It is not known.
    """
    if given is not None:
        if not _GIVEN.fullmatch(given):
            raise ConvertError(f"expected a name such as llama-bpe as `pre`, found {given[:64]!r}")
        return given
    normalizer = tokenizer.normalizer
    if normalizer is not None and any(step.type != "NFC" for step in steps(normalizer)):
        raise ConvertError(
            f"expected a normalizer of NFC or none, found {normalizer.type[:64]!r}: {_HINT}"
        )
    found = tuple(_seen(step) for step in steps(tokenizer.pre_tokenizer))
    name = _NAMES.get((found, bool(tokenizer.model.ignore_merges)))
    if name is None:
        types = ", ".join(kind[:32] for kind, _ in found[:8]) or "no steps"
        raise ConvertError(f"expected a known pre-tokenizer, found one of {types}: {_HINT}")
    return name


def steps(step: Step | None) -> list[Step]:
    """Return the steps of a sequence, or the only one."""
    if step is None:
        return []
    if step.type != "Sequence":
        return [step]
    return [*step.normalizers, *step.pretokenizers]


def _seen(step: Step) -> tuple[str, str | bool]:
    """Return what matters of a step; what is not understood equals nothing that is known."""
    if step.type == "ByteLevel" and not step.add_prefix_space:
        return step.type, step.use_regex is not False
    if step.type == "Digits":
        return step.type, bool(step.individual_digits)
    # The patterns match every character, so both ways of cutting are the same.
    cuts = (step.behavior, bool(step.invert)) in {("Isolated", False), ("Removed", True)}
    if step.type == "Split" and cuts and step.pattern and step.pattern.regex:
        return step.type, step.pattern.regex
    return step.type, "?"


def has_space_prefix(tokenizer: Tokenizer) -> bool:
    """Say whether SentencePiece's rules, in one of the ways to write them, begin with a space.

    Raises:
        ConvertError: They are others.
    """
    before = tuple(_spacing(step) for step in steps(tokenizer.normalizer))
    cut = tuple(_spacing(step) for step in steps(tokenizer.pre_tokenizer))
    found = _PREFIXED.get((before, cut))
    if found is None:
        types = ", ".join(kind[:32] for kind, _ in (*before, *cut)[:8]) or "no steps"
        raise ConvertError(f"expected SentencePiece's normalizer, found {types}")
    return found


def _spacing(step: Step) -> tuple[str, str | None]:
    space = step.pattern is not None and step.pattern.string == " "
    if step.type == "Prepend":
        return step.type, step.prepend
    if step.type == "Replace" and space:
        return step.type, step.content
    if step.type == "Split" and space and not step.invert:
        return step.type, step.behavior
    if step.type == "Metaspace" and step.replacement == _SPACE and step.split is False:
        return step.type, step.prepend_scheme
    return step.type, "?"
