"""A release's chat template, as devices run it; imported in children only.

A golden prompt is put to a variant here exactly as there (a test holds both to the same). The time
and memory that a device allows a template are not held here.
"""

from __future__ import annotations

import time

from sprat_proto.chat_rendering import compiled


class ChatTemplateError(Exception):
    """The template is none, or refuses a prompt; one sentence."""


class ChatTemplate:
    """A compiled template."""

    def __init__(self, source: str) -> None:
        """Compile it.

        Raises:
            ChatTemplateError: It is empty, or not Jinja.
        """
        if not source:
            raise ChatTemplateError(
                "expected a chat template to put golden prompts with, found none: add"
                " --chat-template"
            )
        try:
            self._template = compiled(source, time.strftime)
        except Exception as error:
            # Jinja computes constants, and Python refuses what is nested too deep.
            raise ChatTemplateError(f"the chat template is not Jinja: {_line(error)}") from error

    def render(self, prompt: str, begin: str, end: str) -> str:
        """Return what the model is given for one message of a user.

        Args:
            prompt: The message.
            begin: The name of the token that begins a text.
            end: Of the one that ends it.

        Raises:
            ChatTemplateError: The template raised.
        """
        try:
            return self._template.render(
                messages=[{"role": "user", "content": prompt}],
                add_generation_prompt=True,
                bos_token=begin,
                eos_token=end,
            )
        except Exception as error:
            # A template is a program and may raise anything.
            raise ChatTemplateError(
                f"the chat template refuses the golden prompt {prompt[:60]!r}: {_line(error)}"
            ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
