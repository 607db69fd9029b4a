"""The YAML files that people name on the command line."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, TypeVar

from sprat_controller.cli import words
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.files import read_limited

T = TypeVar("T")


def read_yaml(path: Path, kind: type[T], what: str) -> T:
    """Return what a file says, as a value of a msgspec type.

    Raises:
        CliError: It cannot be read, or says what no `what` says.
    """
    try:
        strict_yaml: Any = importlib.import_module("sprat_controller.publisher.strict_yaml")
    except ImportError as error:
        raise CliError(
            f"expected {error.name} to read {path.name} with, found it not installed here: run"
            " `pip install sprat-controller[publish]`"
        ) from error
    data = read_limited(path, what, strict_yaml.MAX_BYTES)
    try:
        said: T = strict_yaml.decode(data, kind, f"{what} {path.name}")
    except strict_yaml.StrictYamlError as error:
        raise words.wrong(str(error)) from error
    return said
