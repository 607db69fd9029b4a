"""The names that applications give to models."""

from __future__ import annotations

from typing import Final

LATEST: Final = "latest"  # what Ollama's clients append to a name without a tag


def split(name: str) -> tuple[str, str]:
    """Return the model and the adapter that a name stands for; no adapter is an empty one.

    `alias:latest` is the alias itself, `alias:adapter` asks for a LoRA of its variant. Names of
    models, releases and variants have no colon (`sprat_proto.manifest`).
    """
    model, _, tag = name.partition(":")
    return model, "" if tag == LATEST else tag
