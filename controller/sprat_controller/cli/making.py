"""What `sprat models push` does, step by step: prepare, quantize, judge, write, sign, publish."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

# The name below is the library's documented API; it re-exports it without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from sprat_proto.manifest import Evaluation

from sprat_controller.cli import variants
from sprat_controller.cli.announcing import Sent, announce, next_counter
from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.keys import open_signer
from sprat_controller.cli.output import say
from sprat_controller.cli.passphrases import passphrase
from sprat_controller.cli.pipeline import Words, Work, key_of, words_of, work_of
from sprat_controller.cli.progress import progress
from sprat_controller.cli.publishers import publisher_of
from sprat_controller.cli.verbs import Session
from sprat_controller.publisher import report as reports
from sprat_controller.publisher.evaluate.evaluate import Scores, to_signed
from sprat_controller.publisher.golden import check_golden
from sprat_controller.publisher.manifests import ReleaseTerms, check_adapters
from sprat_controller.publisher.originals import Original, Report, check_source, prepare
from sprat_controller.publisher.pipeline import Pipeline
from sprat_controller.publisher.probe_file import with_text
from sprat_controller.publisher.probe_text import measured
from sprat_controller.publisher.push import build, compare, make_variants, upload
from sprat_controller.publisher.quality import good_enough
from sprat_controller.publisher.report import Findings

_NOBODY: Final = "nobody"  # whose what is not published is


@dataclass(frozen=True)
class Made:
    """The variants that are good enough, and what is known of all of them."""

    original: Original
    files: Mapping[str, Path]
    evaluations: Mapping[str, Evaluation]
    findings: Findings | None


@dataclass(frozen=True)
class Release:
    """What came of it."""

    sent: Sent
    findings: Findings | None
    is_published: bool


def push_release(session: Session, said: Pipeline, *, is_dry: bool) -> None:
    """Do what a pipeline says.

    Raises:
        CliError: As `work_of`, `words_of` and the controller say.
        ConvertError, QuantizeError, EvaluateError, QualityError: A step cannot be done.
        ModelFileError: The model is none that Sprat runs.
    """
    try:
        release = _release(session, said, is_dry=is_dry)
    except BrokenPipeError:
        raise
    except OSError as error:
        place = error.filename or said.scratch or tempfile.gettempdir()
        raise CliError(f"{place} cannot be used: {error.strerror or error}") from error
    _show(session, release)


def _release(session: Session, said: Pipeline, *, is_dry: bool) -> Release:
    work, about = work_of(said), words_of(said)
    check_source(work.source)
    if not work.source.is_dir():
        check_adapters(work.source, about.adapters)
    signer = None
    if not is_dry and work.folder is None:
        signer = open_signer(key_of(said), passphrase(session, _path(said.passphrase_file)))
    terms = _terms(session, about, said, signer)
    with (
        tempfile.TemporaryDirectory(prefix="sprat-push-", dir=work.scratch) as scratch,
        progress() as report,
    ):
        made = _make(work, terms, Path(scratch), report)
        if about.probe_text:
            text = measured(made.original, made.files, about.probe_text, Path(scratch), report)
            terms = replace(terms, activation=with_text(terms.activation, text))
        sent = Sent(terms, build(made.files, terms, made.evaluations))
        if not terms.unproven:
            check_golden(sent.variants, Path(scratch), report)
        if signer:
            send = partial(upload, key=signer, destination=session.api, report=report)
            sent = announce(session.api, sent, said.counter, send, session.around.sleep)
    return Release(sent, made.findings, is_published=signer is not None)


def _make(work: Work, terms: ReleaseTerms, scratch: Path, report: Report) -> Made:
    original = prepare(work.source, scratch, work.pre, report)
    check_adapters(original.path, terms.adapters)
    if work.comparison and original.is_quantized:
        raise CliError(
            f"expected an F16, BF16 or F32 model to compare variants with, found"
            f" {work.source.name} quantized: push the original, or add --no-evaluation"
        )
    name = f"{terms.model}-{terms.release}"
    files = make_variants(original, work.kinds, work.folder or scratch, name, report)
    if work.comparison is None:
        return Made(original, files, {}, None)
    scores = compare(original, files, work.comparison, scratch, report)
    return _judged(work, terms, original, files, scores)


def _judged(
    work: Work,
    terms: ReleaseTerms,
    original: Original,
    files: Mapping[str, Path],
    scores: Sequence[Scores],
) -> Made:
    """Write and tell what was measured, whatever comes of it; then leave out what is too bad."""
    sha256 = work.comparison.text_sha256 if work.comparison else ""
    machine = f"{platform.machine()} with {os.cpu_count()} cores"
    found = Findings(terms.model, terms.release, original.form, sha256, machine, scores)
    kept, worse = [*files], list[str]()
    losses = {one.variant: round(one.loss * 1e6) for one in scores}
    try:
        kept, worse = good_enough(losses, work.max_loss_ppm, drop_worse=work.drop_worse)
    finally:
        found = replace(found, dropped=worse)
        _tell(work, found)
    for name in worse:
        files[name].unlink()
    return Made(
        original,
        {kind: files[kind] for kind in kept},
        {
            one.variant: to_signed(one, sha256, reference=original.form)
            for one in scores
            if one.variant in kept
        },
        found,
    )


def _tell(work: Work, found: Findings) -> None:
    for line in reports.to_text(found):
        say(line)
    kept = [work.folder / f"evaluation{ending}" for ending in reports.FORMS] if work.folder else []
    for path in (*work.written, *kept):
        reports.write(found, path)


def _terms(session: Session, about: Words, said: Pipeline, signer: Signer | None) -> ReleaseTerms:
    """Return the release's terms; asked of the controller before hours of work, not after."""
    counter, publisher = said.counter or 1, said.publisher or _NOBODY
    if signer is not None:
        following = next_counter(session.api, about.model, about.release)
        counter = said.counter or following
        publisher = publisher_of(session.api, signer, said.publisher)
    return ReleaseTerms(
        model=about.model,
        release=about.release,
        counter=counter,
        activation=about.activation,
        licence=about.licence,
        created=session.around.clock(),
        publisher=publisher,
        hardware_ids=about.hardware_ids,
        chat_template=about.chat_template,
        adapters=about.adapters,
        origin=about.origin,
        policy=about.policy,
        unproven=about.unproven,
    )


def _show(session: Session, release: Release) -> None:
    terms, is_published = release.sent.terms, release.is_published
    shown = [
        {
            "variant": one.manifest.variant,
            "digest": one.digest if is_published else None,
            "manifest": msgspec.to_builtins(one.manifest),
        }
        for one in release.sent.variants
    ]
    document: Json = {
        "model": terms.model,
        "release": terms.release,
        "counter": terms.counter if is_published else None,
        "publisher": terms.publisher if is_published else None,
        "is_published": is_published,
        "variants": shown,
        "evaluation": reports.to_document(release.findings) if release.findings else None,
    }
    session.output.rows(variants.COLUMNS, [variants.row(one) for one in shown], document)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
