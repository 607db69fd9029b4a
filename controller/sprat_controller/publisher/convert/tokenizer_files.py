"""The files of a tokenizer, as transformers writes them: what a conversion reads of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct, field

from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.files import (
    MAX_TOKENIZER_BYTES,
    read_bytes,
    read_json,
    read_text,
)

TokenId = Annotated[int, Meta(ge=0, le=1 << 31)]

_TOKENIZER: Final = "tokenizer.json"
_CONFIG: Final = "tokenizer_config.json"
_BPE: Final = "BPE"


class Pattern(Struct, rename="pascal"):
    """What a step looks for: one of the two."""

    regex: str | None = None
    string: str | None = None


class Step(Struct):
    """One normalizer or pre-tokenizer; which of the fields matter depends on the type."""

    type: str
    normalizers: list[Step] = field(default_factory=list["Step"])
    pretokenizers: list[Step] = field(default_factory=list["Step"])
    pattern: Pattern | None = None
    content: str | None = None
    prepend: str | None = None
    replacement: str | None = None
    prepend_scheme: str | None = None
    split: bool | None = None
    behavior: str | None = None
    invert: bool | None = None
    individual_digits: bool | None = None
    add_prefix_space: bool | None = None
    use_regex: bool | None = None


class Named(Struct):
    """A token or a sequence in a template."""

    id: str


class Piece(Struct, rename="pascal"):
    """One element of a template: a special token or a sequence."""

    special_token: Named | None = None
    sequence: Named | None = None


class Processor(Struct):
    """A post-processor: what is put around the tokens of a text."""

    type: str
    processors: list[Processor] = field(default_factory=list["Processor"])
    single: list[Piece] = field(default_factory=list[Piece])
    pair: list[Piece] = field(default_factory=list[Piece])


class AddedToken(Struct):
    """A token that is found before the text is cut."""

    content: str
    special: bool = False
    id: TokenId | None = None  # in tokenizer.json; the other file has it as a key


class BytePairs(Struct):
    """The model of a tokenizer: its vocabulary, and which pairs become one, best first."""

    type: str
    vocab: dict[str, TokenId]
    merges: list[str | Annotated[list[str], Meta(min_length=2, max_length=2)]]
    byte_fallback: bool | None = None
    ignore_merges: bool | None = None
    unk_token: str | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None
    dropout: float | None = None


class Tokenizer(Struct):
    """`tokenizer.json`."""

    model: BytePairs
    added_tokens: list[AddedToken] = field(default_factory=list[AddedToken])
    normalizer: Step | None = None
    pre_tokenizer: Step | None = None
    post_processor: Processor | None = None


class Content(Struct):
    """A special token written at length."""

    content: str | None = None


class Template(Struct):
    """One of several chat templates."""

    name: str
    template: str


SpecialText = str | Content | None


class TokenizerConfig(Struct, kw_only=True):
    """`tokenizer_config.json`."""

    tokenizer_class: str | None = None
    add_prefix_space: bool | None = None
    added_tokens_decoder: dict[str, AddedToken] = field(default_factory=dict[str, AddedToken])
    chat_template: str | list[Template] | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    add_sep_token: bool | None = None
    bos_token: SpecialText = None
    eos_token: SpecialText = None
    unk_token: SpecialText = None
    sep_token: SpecialText = None
    pad_token: SpecialText = None
    cls_token: SpecialText = None
    mask_token: SpecialText = None

    def text_of(self, kind: str) -> str | None:
        """Return the special token `kind` (`bos`, ...), or None."""
        found: SpecialText = getattr(self, f"{kind}_token")
        return found.content if isinstance(found, Content) else found


@dataclass(frozen=True)
class TokenizerFiles:
    """What the folder says of its tokenizer."""

    tokenizer: Tokenizer | None
    config: TokenizerConfig
    sentencepiece: bytes | None
    added: dict[str, int]  # of added_tokens.json
    template: str | None  # of a file of its own


class _Kind(Struct):
    type: str


class _Kinds(Struct):
    model: _Kind


class _OldTemplate(Struct):
    chat_template: str | None = None


def read_tokenizer(folder: Path) -> TokenizerFiles:
    """Return the tokenizer of a model folder.

    Raises:
        ConvertError: A file is not what it should be, or there is no tokenizer.
    """
    files = TokenizerFiles(
        tokenizer=_read_json(folder / _TOKENIZER),
        config=read_json(folder / _CONFIG, TokenizerConfig, MAX_TOKENIZER_BYTES)
        or TokenizerConfig(),
        sentencepiece=read_bytes(folder / "tokenizer.model", MAX_TOKENIZER_BYTES),
        added=read_json(folder / "added_tokens.json", dict[str, TokenId], MAX_TOKENIZER_BYTES)
        or {},
        template=_read_template(folder),
    )
    if files.tokenizer is None and files.sentencepiece is None:
        raise ConvertError(f"expected a tokenizer ({_TOKENIZER} or tokenizer.model), found none")
    return files


def _read_json(path: Path) -> Tokenizer | None:
    kinds = read_json(path, _Kinds, MAX_TOKENIZER_BYTES)
    if kinds is None:
        return None
    if kinds.model.type != _BPE:
        raise ConvertError(
            f"expected a {_TOKENIZER} of byte pairs ({_BPE}), found {kinds.model.type[:64]!r}"
        )
    return read_json(path, Tokenizer, MAX_TOKENIZER_BYTES)


def _read_template(folder: Path) -> str | None:
    text = read_text(folder / "chat_template.jinja", MAX_TOKENIZER_BYTES)
    if text is not None:
        return text
    old = read_json(folder / "chat_template.json", _OldTemplate, MAX_TOKENIZER_BYTES)
    return old.chat_template if old else None
