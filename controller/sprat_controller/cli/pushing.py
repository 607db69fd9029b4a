"""`sprat models push`: from a model's file or folder to a signed, published release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from sprat_proto.manifest import GoldenPrompt
from sprat_proto.policy import Aim
from sprat_proto.trust import HARDWARE_IDS

from sprat_controller.cli import words
from sprat_controller.cli.making import push_release
from sprat_controller.cli.passphrases import PassphraseFile
from sprat_controller.cli.pipeline import DEFAULT_VARIANTS
from sprat_controller.cli.pipeline_input import adapters_of, checked, read_pipeline
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.publisher.evaluate.evaluate import LIMIT
from sprat_controller.publisher.pipeline import (
    LEAST_TOKENS,
    MOST_TOKENS,
    Judging,
    Outputs,
    Pipeline,
    Policy,
    overridden,
)
from sprat_controller.publisher.quantize import FILE_TYPES

_EXAMPLE: Final = (
    "sprat models push qwen.gguf --name qwen3-0.6b --release 1.3.0 --key me.pem"
    " --golden 'What is 2+2?=>4'"
)


def add_to(app: typer.Typer) -> None:
    """Add this verb to the group of models."""
    verb(app, "push", example=_EXAMPLE)(push)


def push(
    session: Session,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH", help="A GGUF, best in F16, or a Hugging Face folder of safetensors."
        ),
    ] = None,
    *,
    pipeline: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="Says all of this; options say it anew."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name.")] = None,
    release: Annotated[str | None, typer.Option(help="Its version, MAJOR.MINOR.PATCH.")] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The publisher's private key, FILE or pkcs11:…."),
    ] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            help=f"Of {', '.join(FILE_TYPES)}. Default: {','.join(DEFAULT_VARIANTS)}.",
        ),
    ] = None,
    golden: Annotated[
        list[str] | None,
        typer.Option(metavar="PROMPT=>EXPECTED", help="Asked before activation; repeatable."),
    ] = None,
    soak: Annotated[
        int | None,
        typer.Option(min=0, max=30 * 86400, help="Seconds under watch before it is kept."),
    ] = None,
    probes: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yaml", help="What devices hold it to; see docs/publish.md."),
    ] = None,
    probe_text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A text that devices score, against the original's perplexity."
        ),
    ] = None,
    unproven: Annotated[
        str | None,
        typer.Option(
            metavar="WHY",
            help="Sign without asking the golden prompts here; why stands in the audit log.",
        ),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Default: what the file says.")] = None,
    origin: Annotated[
        str | None, typer.Option(help="Where it came from. Default: what the file says.")
    ] = None,
    publisher: Annotated[
        str | None, typer.Option(help="Default: whoever has this key at the controller.")
    ] = None,
    hardware: Annotated[
        list[str] | None,
        typer.Option(help=f"It may run on; repeatable. Default: {', '.join(HARDWARE_IDS)}."),
    ] = None,
    chat_template: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Jinja. Default: what the file says.")
    ] = None,
    pre: Annotated[
        str | None,
        typer.Option(help="llama.cpp's name of a folder's pre-tokenizer, if it is not known."),
    ] = None,
    counter: Annotated[
        int | None, typer.Option(min=1, max=1 << 53, help="Default: one more than the last.")
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE.gguf", help="A LoRA that requests may ask for; repeatable."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text to compare on."),
    ] = None,
    evaluation_tokens: Annotated[
        int | None,
        typer.Option(min=LEAST_TOKENS, max=MOST_TOKENS, help=f"That are scored. Default: {LIMIT}."),
    ] = None,
    no_evaluation: Annotated[
        bool | None,
        typer.Option(
            "--no-evaluation/--evaluation", help="Whether to measure what each variant lost."
        ),
    ] = None,
    no_rates: Annotated[
        bool | None,
        typer.Option("--no-rates/--rates", help="Whether to measure how fast each is here."),
    ] = None,
    max_quality_loss: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="Refuse variants that lose more."),
    ] = None,
    drop_worse: Annotated[
        bool | None,
        typer.Option(
            "--drop-worse/--refuse-worse", help="Leave out what loses more, or refuse all."
        ),
    ] = None,
    aim: Annotated[
        Aim | None,
        typer.Option(help="Which variant is a device's best."),
    ] = None,
    min_decode_tps: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="Tokens a second, at least."),
    ] = None,
    max_ttft_ms: Annotated[
        int | None,
        typer.Option(min=1, max=1 << 40, help="To the first token, at most."),
    ] = None,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(min=1, max=1 << 20, help="Of the prompt for which --max-ttft-ms counts."),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Such as 2GiB, at most."),
    ] = None,
    min_context: Annotated[
        int | None,
        typer.Option(min=1, max=1 << 20, help="Tokens, at least."),
    ] = None,
    report: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="All figures, as .json or .md; repeatable."),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(metavar="FILE.svg", help="Size against quality."),
    ] = None,
    output_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Keep the variants and their report here; publish nothing."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Make and judge everything; publish nothing."),
    ] = False,
    scratch: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Room for what is made meanwhile."),
    ] = None,
) -> None:
    """Make variants of a model, measure what they lost, sign, upload and publish them."""
    given = Pipeline(
        source=_text(path),
        pre=pre,
        model=name,
        release=release,
        counter=counter,
        publisher=publisher,
        key=key,
        passphrase_file=_text(passphrase_file),
        variants=_kinds(variants),
        licence=licence,
        origin=origin,
        chat_template=_text(chat_template),
        hardware=tuple(hardware) if hardware else None,
        adapters=adapters_of(adapter) if adapter else None,
        golden=_golden(golden),
        soak_s=soak,
        probes=_text(probes),
        probe_text=_text(probe_text),
        unproven=unproven,
        evaluation=Judging(
            skip=no_evaluation,
            calibration=_text(calibration),
            tokens=evaluation_tokens,
            rates=None if no_rates is None else not no_rates,
            max_quality_loss=max_quality_loss,
            drop_worse=drop_worse,
        ),
        policy=Policy(
            aim=aim,
            min_decode_tps=min_decode_tps,
            max_ttft_ms=max_ttft_ms,
            prompt_tokens=prompt_tokens,
            max_memory=max_memory,
            min_context=min_context,
        ),
        outputs=Outputs(
            report=tuple(report) if report else None, picture=picture, folder=output_dir
        ),
        scratch=scratch,
    )
    given = checked(given)
    whole = overridden(read_pipeline(pipeline), given) if pipeline else given
    push_release(session, whole, is_dry=dry_run)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _kinds(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    kinds = tuple(kind.strip().lower() for kind in text.split(","))
    unknown = next((kind for kind in kinds if kind not in FILE_TYPES), None)
    if unknown is not None:
        raise words.wrong(
            f"expected --variants with some of {', '.join(FILE_TYPES)}, found {unknown[:80]!r}"
        )
    return kinds


def _golden(texts: list[str] | None) -> tuple[GoldenPrompt, ...] | None:
    return tuple(words.golden(text) for text in texts) if texts else None
