"""Special tokens by role, which of them go around a text, and the chat template.

As llama.cpp's converter reads them (gguf's `SpecialVocab`): tokenizer_config.json names them,
tokenizer.json has their ids, config.json is asked where those say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sprat_controller.publisher.convert.config import Config
from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.metadata import Metadata
from sprat_controller.publisher.convert.tokenizer_files import (
    Piece,
    Processor,
    TokenizerFiles,
)

_ROLES: Final = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_ADDED: Final = ("bos", "eos", "sep")  # which GGUF has a key for
_NUMBERED: Final = frozenset({"bos", "eos", "unk", "sep", "pad", "mask", "eot"})
_KEYS: Final = {
    "bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding",
    "mask": "mask", "eot": "eot",
}  # fmt: skip


@dataclass
class _Roles:
    """Which token has which role; a template may say what the config does not."""

    texts: dict[str, str] = field(default_factory=dict[str, str])
    are_added: dict[str, bool] = field(default_factory=dict[str, bool])


def special_tokens(files: TokenizerFiles, config: Config, size: int) -> Metadata:
    """Return the metadata of special tokens.

    Args:
        files: The tokenizer.
        config: The model's, for ids that the tokenizer does not say.
        size: Of the vocabulary; what lies beyond has no id.

    Raises:
        ConvertError: The tokenizer puts tokens around a text in a way that is not known.
    """
    roles = _Roles()
    for role in _ROLES:
        text = files.config.text_of(role)
        if text:
            roles.texts[role] = text
    if files.tokenizer is not None:
        for role, other in (("bos", "cls"), ("eos", "sep")):
            if other in roles.texts:
                roles.texts.setdefault(role, roles.texts[other])
        _take_post_processor(files.tokenizer.post_processor, roles)
    for role in _ADDED:
        told: bool | None = getattr(files.config, f"add_{role}_token")
        if told is not None:
            roles.are_added.setdefault(role, told)
    if _adds_nothing(files):
        roles.are_added.setdefault("bos", False)
    metadata: Metadata = {
        f"tokenizer.ggml.{_KEYS[role]}_token_id": number
        for role, number in _ids(files, config, roles).items()
        if role in _NUMBERED and 0 <= number < size
    }
    for role, is_added in roles.are_added.items():
        metadata[f"tokenizer.ggml.add_{role}_token"] = is_added
    return metadata


def chat_template(files: TokenizerFiles) -> str | None:
    """Return the chat template, or of several the one called `default`."""
    told = files.config.chat_template
    if isinstance(told, list):
        return next((one.template for one in told if one.name == "default"), None)
    return told if told is not None else files.template


def _adds_nothing(files: TokenizerFiles) -> bool:
    """Say whether a text stays as it is; llama.cpp would take some for ones that begin anew."""
    tokenizer = files.tokenizer
    return (
        tokenizer is not None
        and tokenizer.post_processor is None
        and not tokenizer.model.byte_fallback
    )


def _ids(files: TokenizerFiles, config: Config, roles: _Roles) -> dict[str, int]:
    listed = files.tokenizer.added_tokens if files.tokenizer else []
    numbers = {one.content: one.id for one in reversed(listed) if one.id is not None}
    ids = {role: numbers[text] for role, text in roles.texts.items() if text in numbers}
    for role in _ROLES:
        told: object = getattr(config, f"{role}_token_id")
        if role not in ids and isinstance(told, int):
            ids[role] = told
    return ids


def _take_post_processor(processor: Processor | None, roles: _Roles) -> None:
    if processor is None:
        return
    for one in processor.processors or [processor]:
        if one.type == "ByteLevel":
            roles.are_added.setdefault("bos", False)
            roles.are_added.setdefault("eos", False)
        elif one.type == "TemplateProcessing":
            _take_template(one, roles)
        elif one.type != "Sequence" or one.processors:
            raise ConvertError(
                f"expected a post-processor with a template, found {one.type[:64]!r}"
            )


def _take_template(processor: Processor, roles: _Roles) -> None:
    single = processor.single
    first = last = None
    if len(single) > 1:
        first, last = _special(single[0]), _special(single[-1])
    if first is not None:
        _take_first(first, roles)
    if last is not None:
        _take_last(last, roles)
    between = _between(processor.pair, first, last)
    if between:
        ends = [roles.texts[role] for role in ("sep", "eos") if role in roles.texts]
        other = _special(between[1]) if len(between) == 2 else None  # noqa: PLR2004 - a pair
        roles.are_added["sep"] = other in ends or (_special(between[0]) in ends and not last)


def _take_first(text: str, roles: _Roles) -> None:
    if text not in {roles.texts.get("bos"), roles.texts.get("cls")}:
        roles.texts.setdefault("bos", text)
        roles.texts.setdefault("cls", text)
    roles.are_added["bos"] = text in {roles.texts.get("bos"), roles.texts.get("cls")}


def _take_last(text: str, roles: _Roles) -> None:
    """A text that ends otherwise than an answer: the end of an answer is the end of a turn then."""
    if text != roles.texts.get("eos"):
        if "eos" in roles.texts:
            roles.texts["eot"] = roles.texts["eos"]
        roles.texts["eos"] = text
    roles.are_added["eos"] = True


def _between(pair: list[Piece], first: str | None, last: str | None) -> list[Piece]:
    """Return what a template puts between two texts."""
    if first is not None and pair and _special(pair[0]) == first:
        pair = pair[1:]
    if last is not None and pair and _special(pair[-1]) == last:
        pair = pair[:-1]
    if not pair or _sequence(pair[0]) != "A" or _sequence(pair[-1]) != "B":
        return []
    return pair[1:-1]


def _special(piece: Piece) -> str | None:
    return piece.special_token.id if piece.special_token else None


def _sequence(piece: Piece) -> str | None:
    return piece.sequence.id if piece.sequence else None
