"""Whose models the fleet may run: said by the top-level targets, signed with offline keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from sprat_proto.trust import IMAGE, publisher_role
from tuf.api.metadata import Targets

from sprat_controller.cli import words
from sprat_controller.cli.client import Api
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.keys import hardware_ids, open_signer, read_public
from sprat_controller.cli.offline import current, publish_targets, targets_of
from sprat_controller.cli.passphrases import PassphraseFile, passphrase
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.trust import ceremony
from sprat_controller.trust.checks import delegations
from sprat_controller.trust.words import named

publishers = typer.Typer(help="Whose models the fleet may run.", rich_markup_mode=None)

KeysFolder = Annotated[
    Path | None,
    typer.Option("--keys", metavar="DIR", help="Holds the offline keys, as `init` made them."),
]
SignWith = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="An image-targets key, FILE or pkcs11:…; repeatable."),
]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(publishers, name="publishers")


@verb(publishers, "add", example="sprat publishers add me me.pub --keys /media/stick")
def add(
    session: Session,
    name: Annotated[str, typer.Argument(help="What people call the publisher.")],
    public: Annotated[Path, typer.Argument(metavar="FILE.pub", help="The public key.")],
    *,
    keys: KeysFolder = None,
    sign_with: SignWith = None,
    hardware: Annotated[
        list[str] | None, typer.Option(help="It may release for; repeatable. Default: any.")
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Let the fleet run what this key signs: new targets, signed here by the offline keys."""
    words.name(name, "a publisher's name")
    key, only = read_public(public), hardware_ids(hardware)
    signers = offline_signers(session, keys, sign_with, passphrase_file)
    repository = current(session.api, IMAGE)
    if publisher_role(name) in delegations(targets_of(repository)):
        raise CliError(
            f"the publisher {name} is known already: give it another key with `sprat trust ceremony"
            f" DIR --publisher {name}=FILE.pub`",
            Exit.CONFLICT,
        )

    def change(targets: Targets) -> None:
        ceremony.delegate(targets, name, [named(key, name)], hardware_ids=only)

    version = publish_targets(session, repository, signers, change)
    made = {"name": name, "key_id": key.keyid, "targets": version}
    session.output.one(made, made)


@verb(publishers, "list", example="sprat publishers list")
def list_publishers(session: Session) -> None:
    """List the publishers that the controller knows."""
    items = list(session.api.pages("publishers"))
    columns = ("name", "key_ids", "created_at")
    rows = [[item["name"], ",".join(item["key_ids"]), item["created_at"]] for item in items]
    session.output.rows(columns, rows, {"items": items})


def publisher_of(api: Api, signer: Signer, name: str | None) -> str:
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


def offline_signers(
    session: Session,
    folder: Path | None,
    single: Sequence[str] | None,
    passphrase_file: Path | None,
) -> list[Signer]:
    """Return the image-targets keys of a folder, and those that were named one by one.

    Raises:
        CliError: None, or one that cannot be used.
    """
    found = sorted(folder.glob("image-targets-*.pem")) if folder else []
    names = [*map(str, found), *(single or [])]
    if not names:
        where = f"image-targets-*.pem in {folder}" if folder else "--keys DIR or --sign-with KEY"
        raise CliError(f"expected the image-targets keys, {where}, found none", Exit.USAGE)
    secret = passphrase(session, passphrase_file)
    return [open_signer(name, secret) for name in names]
