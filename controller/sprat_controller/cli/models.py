"""Models: publish signed releases, and look at what is published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from sprat_proto import canonical

from sprat_controller.cli import pushing, variants, words
from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.keys import open_signer
from sprat_controller.cli.output import Cell
from sprat_controller.cli.passphrases import PassphraseFile, passphrase
from sprat_controller.cli.publishers import publisher_of
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.publisher.signing import release_prefix, without_release

models = typer.Typer(help="Models and their signed releases.", rich_markup_mode=None)
pushing.add_to(models)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(models, name="models")


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
    publisher = publisher_of(session.api, signer, None)
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
        listed: list[Json] = found.get("variants") or []
        session.output.rows(variants.COLUMNS, [variants.row(one) for one in listed], found)
        return
    found = session.api.get(f"models/{words.name(model, 'a model name')}")
    releases: list[Json] = found.get("releases") or []
    columns = ("release", "counter", "created_at", "pushed_by", "retired_at")
    rows = [[release.get(column) for column in columns] for release in releases]
    session.output.rows(columns, rows, found)


def _newest(releases: list[Json]) -> list[Cell]:
    if not releases:
        return [0, None, None]
    newest = max(releases, key=lambda one: int(one.get("counter", 0)))
    return [len(releases), newest.get("release"), newest.get("created_at")]
