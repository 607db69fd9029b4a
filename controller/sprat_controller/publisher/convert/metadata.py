"""Values of a GGUF's metadata, and those that say where a model comes from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, TypeAlias

from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.convert.files import read_text

# Integers are 32 bits unsigned, floats 32 bits, integers in lists 32 bits signed.
Value: TypeAlias = str | int | float | bool | list[str] | list[int] | list[float]
Metadata: TypeAlias = dict[str, Value]

F16_FILE: Final = 1  # llama.cpp's file type: most tensors in half precision
_QUANTIZATION_VERSION: Final = 2
_MAX_CARD_BYTES: Final = 4 << 20
_LICENCE: Final = re.compile(
    r"^(license(?:_name|_link)?):[ \t]*(['\"]?)([^'\"#\n]{1,256}?)\2[ \t]*$"
)


def general(folder: Path) -> Metadata:
    """Return `general.*` of a model folder: its name, and the licence in its card's front matter.

    Raises:
        ConvertError: README.md cannot be read.
    """
    name = folder.resolve().name
    _check_name(name)
    card = read_text(folder / "README.md", _MAX_CARD_BYTES) or ""
    return {
        "general.type": "model",
        "general.name": name,
        **_licence(card),
        "general.file_type": F16_FILE,
        "general.quantization_version": _QUANTIZATION_VERSION,
    }


def _licence(card: str) -> Metadata:
    lines = card.splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return {}
    front = lines[1 : lines.index("---", 1)]
    found = (_LICENCE.match(line) for line in front)
    return {f"general.{one[1].replace('_', '.')}": one[3] for one in found if one}


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ConvertError(
            "expected a model folder with a name in UTF-8, found other bytes"
        ) from error
