"""What a pipeline says as values that are right: words checked, files read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sprat_proto.manifest import NO_ADAPTER, Activation
from sprat_proto.policy import DEFAULT, Aim, FitPolicy
from sprat_proto.trust import HARDWARE_IDS

from sprat_controller.cli import policy, probing, words
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.files import read_text
from sprat_controller.cli.keys import hardware_ids
from sprat_controller.publisher.evaluate.calibration import default_text
from sprat_controller.publisher.evaluate.evaluate import LIMIT
from sprat_controller.publisher.manifests import AdapterSource
from sprat_controller.publisher.pipeline import Judging, Outputs, Pipeline, Policy
from sprat_controller.publisher.probe_file import ProbeText
from sprat_controller.publisher.push import Comparison
from sprat_controller.publisher.quantize import FILE_TYPES
from sprat_controller.publisher.report import FORMS

# F16 is left out: twice the size of Q8_0, which loses next to nothing against it.
DEFAULT_VARIANTS: Final = ("q8_0", "q5_1", "q4_k_m", "q4_0")
_MAX_TEXT_BYTES: Final = 16 << 20
_PICTURE: Final = ".svg"


@dataclass(frozen=True)
class Work:
    """What is to be made and judged, checked.

    Attributes:
        source: A GGUF or a folder.
        pre: The pre-tokenizer of a folder, if it was named.
        kinds: The variants.
        comparison: On what they are compared; None: they are not.
        max_loss_ppm: What a published variant may lose, millionths; None: anything.
        drop_worse: Leave out what loses more, instead of refusing all.
        written: Reports and pictures, as their endings say.
        folder: Where the variants are kept; None: nowhere.
        scratch: Where there is room meanwhile; None: where the system puts such things.
    """

    source: Path
    pre: str | None
    kinds: tuple[str, ...]
    comparison: Comparison | None
    max_loss_ppm: int | None
    drop_worse: bool
    written: tuple[Path, ...]
    folder: Path | None
    scratch: Path | None


@dataclass(frozen=True)
class Words:
    """What a release says of itself, checked."""

    model: str
    release: str
    activation: Activation
    probe_text: ProbeText | None  # whose bound is measured of the original
    licence: str
    origin: str
    hardware_ids: tuple[str, ...]
    chat_template: str | None
    adapters: tuple[AdapterSource, ...]
    policy: FitPolicy
    unproven: str


def work_of(said: Pipeline) -> Work:
    """Return what is to be made.

    Raises:
        CliError: It is not said, makes no sense, or names a file that cannot be used.
    """
    judging = said.evaluation
    limit = judging.max_quality_loss
    if judging.drop_worse and limit is None:
        raise words.wrong("expected --max-quality-loss beside --drop-worse, found no limit")
    if judging.skip and limit is not None:
        raise words.wrong("expected an evaluation to hold to --max-quality-loss, found none")
    if judging.skip and (said.outputs.report or said.outputs.picture):
        raise words.wrong("expected an evaluation to report of, found that there is none")
    return Work(
        source=Path(_said(said.source, "a model", "PATH", "source")),
        pre=said.pre,
        kinds=_kinds(said.variants or DEFAULT_VARIANTS),
        comparison=None if judging.skip else _comparison(judging),
        max_loss_ppm=None if limit is None else words.loss(str(limit)),
        drop_worse=bool(judging.drop_worse),
        written=_written(said.outputs),
        folder=_folder(said.outputs.folder, "a folder to keep the variants in"),
        scratch=_scratch(said.scratch),
    )


def words_of(said: Pipeline) -> Words:
    """Return what the release says of itself.

    Raises:
        CliError: As for `work_of`.
    """
    activation, probe_text = probing.activation(said)
    return Words(
        model=words.name(_said(said.model, "a model's name", "--name", "model"), "a model name"),
        release=words.version(_said(said.release, "its version", "--release", "release")),
        activation=activation,
        probe_text=probe_text,
        licence=said.licence or "",
        origin=said.origin or "",
        hardware_ids=tuple(dict.fromkeys(hardware_ids(said.hardware))) or HARDWARE_IDS,
        chat_template=_template(said.chat_template),
        adapters=_adapters(said.adapters or {}),
        policy=_policy(said.policy),
        unproven=_unproven(said.unproven),
    )


def key_of(said: Pipeline) -> str:
    """Return where the publisher's key is.

    Raises:
        CliError: It was not said.
    """
    return _said(said.key, "the publisher's private key", "--key", "key")


def _said(value: str | None, what: str, option: str, key: str) -> str:
    if value is None:
        raise words.wrong(
            f"expected {what}, found none: give {option}, or `{key}` in a pipeline's file"
        )
    return value


def _kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in FILE_TYPES or kinds.count(kind) > 1:
            raise words.wrong(
                f"expected different variants of {', '.join(FILE_TYPES)}, found"
                f" {', '.join(kinds)!r}"
            )
    return tuple(kinds)


def _comparison(judging: Judging) -> Comparison:
    if judging.calibration is None:
        return Comparison(default_text(), *_how(judging))
    path = Path(judging.calibration)
    text = read_text(path, "calibration text", _MAX_TEXT_BYTES)
    if not text.strip():
        raise CliError(f"expected a calibration text in {path}, found nothing")
    return Comparison(text, *_how(judging))


def _how(judging: Judging) -> tuple[int, bool]:
    """Return how many tokens are scored, and whether rates are measured too."""
    return judging.tokens or LIMIT, judging.rates is not False


def _written(outputs: Outputs) -> tuple[Path, ...]:
    """Check, before the work, that what is asked for has a form and a place."""
    reports = [Path(one) for one in outputs.report or ()]
    pictures = [] if outputs.picture is None else [Path(outputs.picture)]
    for paths, endings in (
        (reports, [one for one in FORMS if one != _PICTURE]),
        (pictures, [_PICTURE]),
    ):
        for path in paths:
            if path.suffix not in endings:
                raise words.wrong(f"expected a file {' or '.join(endings)}, found {path.name!r}")
            if not path.parent.is_dir() or path.is_dir():
                raise CliError(f"expected a folder for {path}, found none")
    return (*reports, *pictures)


def _folder(text: str | None, what: str) -> Path | None:
    if text is None:
        return None
    path = Path(text)
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise CliError(f"expected {what}, found that {path} is none: {error.strerror}") from error
    return path


def _scratch(text: str | None) -> Path | None:
    if text is not None and not Path(text).is_dir():
        raise CliError(f"expected a folder with room, found that {text} is none")
    return None if text is None else Path(text)


def _template(path: str | None) -> str | None:
    return None if path is None else read_text(Path(path), "chat template")


def _adapters(said: Mapping[str, str]) -> tuple[AdapterSource, ...]:
    if NO_ADAPTER in said:
        raise words.wrong(
            f"expected different names of adapters, none of them {NO_ADAPTER!r}, found it"
        )
    return tuple(
        AdapterSource(words.name(name, "an adapter's name"), Path(path))
        for name, path in said.items()
    )


def _unproven(said: str | None) -> str:
    if said is not None and not said.strip():
        raise words.wrong("expected why the release is not proved here, found nothing")
    return said or ""


def _policy(said: Policy) -> FitPolicy:
    rate, loss = said.min_decode_tps, said.max_quality_loss
    given = {
        "aim": None if said.aim is None else _aim(said.aim),
        "min_decode_tps": None if rate is None else str(rate),
        "max_ttft_ms": said.max_ttft_ms,
        "prompt_tokens": said.prompt_tokens,
        "max_memory": said.max_memory,
        "min_context": said.min_context,
        "max_quality_loss": None if loss is None else str(loss),
        "runtime": None,  # a release has one runtime and one licence: there is nothing to choose
        "licence": None,
    }
    return policy.read(given) or DEFAULT


def _aim(text: str) -> Aim:
    try:
        return Aim(text)
    except ValueError as error:
        raise CliError(
            f"expected an aim of {', '.join(Aim)}, found {text!r}", Exit.USAGE
        ) from error
