"""What `sprat models push` is to do, as a file or options say it: the pipeline's keys.

Options and file have one shape, so that options may say anything anew; see `docs/publish.md`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct
from sprat_proto.manifest import GoldenPrompt

# The smallest chunk that is scored, and far beyond what any comparison needs.
LEAST_TOKENS: Final = 255
MOST_TOKENS: Final = 1 << 20
_OTHER_KEYS: Final = "pkcs11:"  # keys that are no files
_FILES: Final = (
    "source",
    "key",
    "passphrase_file",
    "chat_template",
    "probes",
    "probe_text",
    "scratch",
)

File: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4096)]
Word: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1024)]
Words: TypeAlias = Annotated[tuple[Word, ...], Meta(max_length=64)]

_S = TypeVar("_S", bound=Struct)


class Judging(Struct, frozen=True, forbid_unknown_fields=True):
    """How variants are compared with the original, and which are good enough."""

    skip: bool | None = None
    calibration: File | None = None
    tokens: Annotated[int, Meta(ge=LEAST_TOKENS, le=MOST_TOKENS)] | None = None
    rates: bool | None = None
    max_quality_loss: Word | int | float | None = None  # as `5%`
    drop_worse: bool | None = None


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """The release's own terms of fit, as people write them; a rollout may have others."""

    aim: Word | None = None
    min_decode_tps: Word | int | float | None = None
    max_ttft_ms: Annotated[int, Meta(ge=1, le=1 << 40)] | None = None
    prompt_tokens: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    max_memory: Word | None = None  # as `900MiB`
    min_context: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    max_quality_loss: Word | int | float | None = None  # as `5%`


class Outputs(Struct, frozen=True, forbid_unknown_fields=True):
    """What is written beside what is published."""

    report: Annotated[tuple[File, ...], Meta(max_length=8)] | None = None
    picture: File | None = None
    folder: File | None = None  # of variants that are kept and not published


class Pipeline(Struct, frozen=True, forbid_unknown_fields=True):
    """From a model to a release; None is what was not said."""

    schema: Literal[1] = 1
    source: File | None = None
    pre: Word | None = None
    model: Word | None = None
    release: Word | None = None
    counter: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None
    publisher: Word | None = None
    key: File | None = None  # where it is, never the key itself
    passphrase_file: File | None = None
    variants: Words | None = None
    licence: str | None = None
    origin: Annotated[str, Meta(max_length=1024)] | None = None
    chat_template: File | None = None
    hardware: Words | None = None
    adapters: Annotated[dict[str, File], Meta(max_length=64)] | None = None
    golden: Annotated[tuple[GoldenPrompt, ...], Meta(max_length=64)] | None = None
    soak_s: Annotated[int, Meta(ge=0, le=30 * 86400)] | None = None
    probes: File | None = None  # a file of its own: see `publisher/probe_file.py`
    probe_text: File | None = None  # in the place of the text that it names
    # Why the golden prompts are not asked here before they are signed.
    unproven: Annotated[str, Meta(max_length=200)] | None = None
    evaluation: Judging = Judging()
    policy: Policy = Policy()
    outputs: Outputs = Outputs()
    scratch: File | None = None


def overridden(base: _S, over: _S) -> _S:
    """Return `base` with all that `over` says said anew."""
    changed: dict[str, object] = {}
    for name in base.__struct_fields__:
        old, new = getattr(base, name), getattr(over, name)
        if isinstance(new, Struct) and isinstance(old, Struct):
            changed[name] = overridden(old, new)
        elif new is not None:
            changed[name] = new
    return msgspec.structs.replace(base, **changed)


def located(pipeline: Pipeline, folder: Path) -> Pipeline:
    """Return a pipeline whose relative paths, which are meant from `folder`, are found anywhere."""

    def at(text: str | None) -> str | None:
        if text is None or text.startswith(_OTHER_KEYS):
            return text
        # Not pathlib's: that one raises an error where there is no such home.
        return str(folder / os.path.expanduser(text))  # noqa: PTH111

    outputs, adapters, judging = pipeline.outputs, pipeline.adapters, pipeline.evaluation
    changed: dict[str, Any] = {name: at(getattr(pipeline, name)) for name in _FILES}
    changed["adapters"] = adapters and {name: at(path) for name, path in adapters.items()}
    changed["evaluation"] = msgspec.structs.replace(judging, calibration=at(judging.calibration))
    changed["outputs"] = Outputs(
        report=outputs.report and tuple(str(at(one)) for one in outputs.report),
        picture=at(outputs.picture),
        folder=at(outputs.folder),
    )
    return msgspec.structs.replace(pipeline, **changed)
