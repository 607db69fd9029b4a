"""Cutting texts that llama.cpp does not survive whole. Pure.

It cuts texts of several families (Mistral's tekken, DeepSeek's, GPT-4o's, and where a file names
none) by C++'s std::regex, which calls itself for each character of a match: some 20,000 letters or
spaces in a row are more than a thread's stack, and the end of the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

LONGEST: Final = 4096  # characters; a stack of 8 MiB holds four times as many
# Each run is looked at from its beginning only: from all places it would take its length squared.
_RUN: Final = re.compile(rf"(?<!\S)\S{{{LONGEST + 1},}}|(?<!\s)\s{{{LONGEST + 1},}}")
_NAME: Final = 64  # characters that the text of a control token has at most
_OPENS, _CLOSES = "<[", ">]"


def parts(text: str) -> Iterator[str]:
    """Yield the text in parts without a longer run of what is, or is not, white space.

    Tokens do not go over a cut. What may be the text of a control token is left whole.
    """
    begins = 0
    for run in _RUN.finditer(text):
        end = run.start() + LONGEST
        while end < run.end():
            end = _before_name(text, end)
            yield text[begins:end]
            begins, end = end, end + LONGEST
    yield text[begins:]


def _before_name(text: str, at: int) -> int:
    """Return the place, or that of the control token's text that may go over it."""
    opens = max(text.rfind(one, at - _NAME, at) for one in _OPENS)
    is_open = opens >= 0 and not any(one in text[opens:at] for one in _CLOSES)
    return opens if is_open else at
