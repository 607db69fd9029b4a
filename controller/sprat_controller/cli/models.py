"""Models: publish a GGUF as a signed release, and look at what is published."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

# The name below is the library's documented API; it re-exports it without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from sprat_proto import canonical
from sprat_proto.manifest import NO_ADAPTER, Activation
from sprat_proto.trust import HARDWARE_IDS

from sprat_controller.cli import words
from sprat_controller.cli.client import Api, Json
from sprat_controller.cli.exits import CliError, Exit, NotFoundError
from sprat_controller.cli.files import read_text
from sprat_controller.cli.keys import PassphraseFile, hardware_ids, open_signer, passphrase
from sprat_controller.cli.output import Cell, say, size
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.publisher.manifests import (
    AdapterSource,
    BuiltVariant,
    ReleaseTerms,
    check_adapters,
)
from sprat_controller.publisher.push import Report, make_variants, upload
from sprat_controller.publisher.quantize import FILE_TYPES
from sprat_controller.publisher.signing import release_prefix, without_release

models = typer.Typer(help="Models and their signed releases.", rich_markup_mode=None)
DEFAULT_VARIANTS: Final = "q8_0,q5_1,q4_0"
COLUMNS: Final = ("variant", "size", "bits per weight", "digest", "adapters")


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(models, name="models")


@verb(
    models,
    "push",
    example="sprat models push qwen.gguf --name qwen3-0.6b --release 1.3.0 --key me.pem"
    " --golden 'What is 2+2?=>4'",
)
def push(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE.gguf", help="The model, best in F16.")],
    *,
    name: Annotated[str, typer.Option(help="The model's name.")],
    release: Annotated[str, typer.Option(help="Its version, MAJOR.MINOR.PATCH.")],
    key: Annotated[Path, typer.Option(help="The publisher's private key, from keys generate.")],
    variants: Annotated[
        str, typer.Option(help=f"Comma-separated, of {', '.join(FILE_TYPES)}.")
    ] = DEFAULT_VARIANTS,
    golden: Annotated[
        list[str] | None,
        typer.Option(metavar="PROMPT=>EXPECTED", help="Asked before activation; repeatable."),
    ] = None,
    soak: Annotated[
        int, typer.Option(min=0, max=30 * 86400, help="Seconds under watch before it is kept.")
    ] = 0,
    licence: Annotated[str, typer.Option(help="Default: what the file says.")] = "",
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
) -> None:
    """Quantize a GGUF, sign each variant here, upload them and publish the release."""
    kinds = _kinds(variants)
    words.name(name, "a model name")
    words.version(release)
    activation = Activation(probe=[words.golden(text) for text in golden or []], soak_s=soak)
    adapters = _adapters(adapter or [])
    check_adapters(file, adapters)
    template = read_text(chat_template, "chat template") if chat_template else None
    signer = open_signer(key, passphrase(session, passphrase_file))
    following = _next_counter(session.api, name, release)
    terms = ReleaseTerms(
        model=name,
        release=release,
        counter=counter or following,
        activation=activation,
        licence=licence,
        created=session.around.clock(),
        publisher=_publisher(session.api, signer, publisher),
        hardware_ids=tuple(hardware_ids(hardware) or HARDWARE_IDS),
        chat_template=template,
        adapters=adapters,
    )
    with tempfile.TemporaryDirectory(prefix="sprat-push-") as folder, _progress() as report:
        made = make_variants(file, kinds, terms, folder=Path(folder), report=report)
        upload(made, terms, signer, session.api, report)
    document = _pushed(terms, made)
    session.output.rows(COLUMNS, [_row(variant) for variant in document["variants"]], document)


@verb(models, "retire", example="sprat models retire qwen3-0.6b@1.3.0 --key me.pem")
def retire(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL@RELEASE")],
    *,
    key: Annotated[Path, typer.Option(help="The publisher's private key.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Have no device activate a release anew; those that run it go on."""
    name, release = words.model_release(model)
    signer = open_signer(key, passphrase(session, passphrase_file))
    publisher = _publisher(session.api, signer, None)
    newest = session.api.role_metadata(publisher)
    if newest is None:
        raise CliError(f"the publisher {publisher} has released nothing yet")
    prefix = release_prefix(publisher, name, release)
    metadata = without_release(newest, prefix, signer, session.around.clock())
    sha256 = canonical.sha256_hex(metadata)
    session.api.put_bytes(sha256, metadata)
    body = {"publisher": publisher, "metadata": sha256}
    answer = session.api.post(f"models/{name}/releases/{release}/retire", body)
    session.output.one({"retired": model, "publisher": publisher}, answer)


@verb(models, "list", example="sprat models list")
def list_models(session: Session) -> None:
    """List models and their newest release."""
    items = list(session.api.pages("models"))
    rows: list[list[Cell]] = [
        [item.get("model", item.get("name")), *_newest(item.get("releases") or [])]
        for item in items
    ]
    session.output.rows(("model", "releases", "newest", "created_at"), rows, {"items": items})


@verb(models, "show", example="sprat models show qwen3-0.6b@1.3.0")
def show(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL[@RELEASE]")],
) -> None:
    """Show a model's releases, or a release's variants."""
    if "@" in model:
        name, release = words.model_release(model)
        found = session.api.get(f"models/{name}/releases/{release}")
        variants: list[Json] = found.get("variants") or []
        session.output.rows(COLUMNS, [_row(variant) for variant in variants], found)
        return
    found = session.api.get(f"models/{words.name(model, 'a model name')}")
    releases: list[Json] = found.get("releases") or []
    columns = ("release", "counter", "created_at", "pushed_by", "retired_at")
    rows = [[release.get(column) for column in columns] for release in releases]
    session.output.rows(columns, rows, found)


def _publisher(api: Api, signer: Signer, name: str | None) -> str:
    """Return whose key it is, as the controller has it.

    Raises:
        CliError: Nobody's, or several publishers' and none was named.
    """
    if name is not None:
        return words.name(name, "a publisher's name")
    key_id = signer.public_key.keyid
    found = [one["name"] for one in api.pages("publishers") if key_id in one["key_ids"]]
    if len(found) != 1:
        raise CliError(
            f"expected one publisher with the key {key_id[:12]}, found"
            f" {', '.join(found) or 'none'}: add it with `sprat publishers add`, or"
            " choose with --publisher"
        )
    return str(found[0])


def _adapters(texts: Sequence[str]) -> tuple[AdapterSource, ...]:
    found: dict[str, AdapterSource] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise words.wrong(f"expected an adapter of the form NAME=FILE.gguf, found {text!r}")
        if name in found or name == NO_ADAPTER:
            raise words.wrong(
                f"expected different names of adapters, none of them {NO_ADAPTER!r}, found {name!r}"
            )
        found[name] = AdapterSource(words.name(name, "an adapter's name"), Path(path))
    return tuple(found.values())


def _kinds(text: str) -> list[str]:
    kinds = [kind.strip().lower() for kind in text.split(",")]
    for kind in kinds:
        if kind not in FILE_TYPES or kinds.count(kind) > 1:
            known = ", ".join(FILE_TYPES)
            raise words.wrong(f"expected different variants of {known}, found {text!r}")
    return kinds


def _next_counter(api: Api, model: str, release: str) -> int:
    """Return one more than the highest counter of the model's releases.

    Raises:
        CliError: The release is published already; told before an hour of quantizing, not after.
    """
    try:
        releases: list[Json] = api.get(f"models/{model}").get("releases") or []
    except NotFoundError:
        return 1
    if any(one.get("release") == release for one in releases):
        raise CliError(
            f"{model}@{release} is published already, and a release never changes: choose the next"
            " version",
            Exit.CONFLICT,
        )
    return 1 + max((int(release["counter"]) for release in releases), default=0)


@contextmanager
def _progress() -> Generator[Report]:
    """Yield a report that draws one bar per step on standard error, if a person sees it."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def _lines() -> Report:
    """Return a report that says each step once, for a log."""
    said: set[str] = set()

    def report(what: str, done: int, total: int) -> None:
        del done, total
        if what not in said:
            said.add(what)
            say(what)

    return report


def _pushed(terms: ReleaseTerms, made: Sequence[BuiltVariant]) -> Json:
    return {
        "model": terms.model,
        "release": terms.release,
        "counter": terms.counter,
        "publisher": terms.publisher,
        "variants": [
            {
                "variant": one.manifest.variant,
                "digest": one.digest,
                "manifest": msgspec.to_builtins(one.manifest),
            }
            for one in made
        ],
    }


def _row(variant: Json) -> list[Cell]:
    """Return a variant as a line; its manifest tells size and bits."""
    try:
        manifest = variant["manifest"]
        total = sum(shard["size"] for shard in manifest["shards"])
        facts = manifest["facts"]
        bits = facts["weights_bytes"] * 8 / max(facts["parameters"], 1)
        adapters = ", ".join(one["name"] for one in manifest.get("adapters") or ()) or None
    except (KeyError, TypeError) as error:
        raise CliError(
            "expected variants with their manifests: is the controller older?"
        ) from error
    return [variant.get("variant"), size(total), f"{bits:.2f}", variant.get("digest"), adapters]


def _newest(releases: list[Json]) -> list[Cell]:
    if not releases:
        return [0, None, None]
    newest = max(releases, key=lambda one: int(one.get("counter", 0)))
    return [len(releases), newest.get("release"), newest.get("created_at")]
