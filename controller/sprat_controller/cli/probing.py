"""What a release's devices hold it to, as options and a probe file say it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace
from sprat_proto.manifest import Activation, GoldenPrompt
from sprat_proto.probes import ProbesError, check_schema

from sprat_controller.cli import words
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.files import read_limited, read_text
from sprat_controller.publisher.pipeline import Pipeline
from sprat_controller.publisher.probe_file import (
    MARGIN_PERCENT,
    ProbeFile,
    ProbeText,
    Text,
    activation_of,
)

_MAX_BYTES: Final = 64 << 10
_MOST_GOLDEN: Final = 64


def activation(said: Pipeline) -> tuple[Activation, ProbeText | None]:
    """Return what is signed of it, and the text whose bound is measured later.

    Raises:
        CliError: A file cannot be read, or says what no probe says.
    """
    golden, soak_s = said.golden or (), said.soak_s or 0
    if said.probes is None and said.probe_text is None:
        return Activation(probe=list(golden), soak_s=soak_s), None
    path = None if said.probes is None else Path(said.probes)
    file = ProbeFile() if path is None else _read(path)
    if said.probe_text is not None:
        file = replace(file, text=_renamed(file.text, said.probe_text))
    elif file.text and path:
        file = replace(file, text=replace(file.text, file=str(path.parent / file.text.file)))
    found = activation_of(file, golden, soak_s)
    _check(found.probe)
    return found, _text(file.text) if file.text else None


def _read(path: Path) -> ProbeFile:
    try:
        strict_yaml: Any = importlib.import_module("sprat_controller.publisher.strict_yaml")
    except ImportError as error:
        raise CliError(
            f"expected {error.name} to read {path.name} with, found it not installed here: run"
            " `pip install sprat-controller[publish]`"
        ) from error
    data = read_limited(path, "probe file", _MAX_BYTES)
    try:
        return strict_yaml.decode(data, ProbeFile, f"probes {path.name}")
    except strict_yaml.StrictYamlError as error:
        raise words.wrong(str(error)) from error


def _renamed(text: Text | None, file: str) -> Text:
    return Text(file) if text is None else replace(text, file=file)


def _text(said: Text) -> ProbeText:
    if said.max_perplexity is not None and said.margin_percent is not None:
        raise words.wrong("expected max_perplexity or margin_percent of a probe's text, found both")
    path = Path(said.file)
    text = read_text(path, "probe's text", _MAX_BYTES)
    if not text.strip():
        raise CliError(f"expected a text in {path}, found nothing")
    return ProbeText(
        text=text,
        tokens=said.tokens,
        margin_percent=said.margin_percent or MARGIN_PERCENT,
        bound_milli=round((said.max_perplexity or 0) * 1000),
    )


def _check(golden: list[GoldenPrompt]) -> None:
    if len(golden) > _MOST_GOLDEN:
        raise words.wrong(f"expected at most {_MOST_GOLDEN} golden prompts, found {len(golden)}")
    for one in golden:
        if one.match == "schema":
            try:
                check_schema(one.expect)
            except ProbesError as error:
                raise words.wrong(f"the golden prompt {one.prompt[:60]!r}: {error}") from error
