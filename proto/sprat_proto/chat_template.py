"""What can be told of a chat template (Jinja) without running it. Pure."""

from __future__ import annotations

import re
from typing import Final

_BEGIN: Final = re.compile(r"\{#|\{[{%]")  # of a comment, or of a tag
# In a tag: its end, a text (or what is left, if it has no end), the variable.
_IN_TAG: Final = re.compile(
    r"(?P<end>[}%]\})|'(?:[^'\\]|\\.?)*+(?:'|\Z)|\"(?:[^\"\\]|\\.?)*+(?:\"|\Z)"
    r"|(?P<tools>(?<![.\w])tools\b)",
    re.DOTALL,
)


def presents_tools(template: str) -> bool:
    """Tell whether a template shows a model the tools that it may call.

    It does if one of its tags uses the variable `tools`: the word in what is written as it stands,
    in a comment, or as part of something else does not count. Takes time in proportion to the
    template's length.
    """
    at = 0
    while begin := _BEGIN.search(template, at):
        if begin.group() == "{#":
            end = template.find("#}", begin.end())
            at = len(template) if end < 0 else end + 2
            continue
        at = begin.end()
        while part := _IN_TAG.search(template, at):
            if part.lastgroup == "tools":
                return True
            at = part.end()
            if part.lastgroup == "end":
                break
        else:
            return False  # a tag without end
    return False
