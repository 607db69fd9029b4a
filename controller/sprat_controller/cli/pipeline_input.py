"""A pipeline as it comes in: from its YAML file, or from options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from sprat_controller.cli import words
from sprat_controller.cli.yaml_files import read_yaml
from sprat_controller.publisher.pipeline import Pipeline, located


def read_pipeline(path: Path) -> Pipeline:
    """Return what a pipeline's file says; its relative paths are meant from its own folder.

    Raises:
        CliError: It cannot be read, or says what no pipeline says.
    """
    return located(read_yaml(path, Pipeline, "pipeline"), path.parent)


def checked(said: Pipeline) -> Pipeline:
    """Return what options say, held to the limits that a file is held to.

    Raises:
        CliError: Something is longer, or more, than a manifest takes.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(said), Pipeline)
    except msgspec.ValidationError as error:
        raise words.wrong(f"the options say too much: {error}") from error


def adapters_of(texts: Sequence[str]) -> dict[str, str]:
    """Read NAME=FILE.gguf words; each name once."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise words.wrong(f"expected an adapter of the form NAME=FILE.gguf, found {text!r}")
        if name in found:
            raise words.wrong(f"expected different names of adapters, found {name!r} twice")
        found[name] = path
    return found
