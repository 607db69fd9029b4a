"""The audit logs: the controller's own, and each device's as it arrived."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from sprat_proto import audit_events

from sprat_controller.cli import audit_keeping, audit_proofs, audit_prove, words
from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.output import Cell
from sprat_controller.cli.verbs import Session, verb

audit = typer.Typer(help="Who did what, in order, unbroken.", rich_markup_mode=None)
DeviceOption = Annotated[
    str | None, typer.Option(help="A device's own log instead of the controller's.")
]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    audit_proofs.add_to(audit)
    audit_prove.add_to(audit)
    audit_keeping.add_to(audit)
    app.add_typer(audit, name="audit")


@verb(audit, "list", example="sprat audit list --tag operator:rollout:started")
def list_records(
    session: Session,
    *,
    device: DeviceOption = None,
    tag: Annotated[str | None, typer.Option(help="Only what has this tag.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this actor did.")] = None,
    after: Annotated[int, typer.Option(min=0, help="Only after this position.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
) -> None:
    """List audit records, oldest first."""
    params: Json = {"after": after} | ({"tag": tag, "actor": actor} if device is None else {})
    # A device's log is filtered here, as its API has no filters.
    here = device is not None and (tag or actor)
    pages = session.api.pages(_path(device), params, None if here else limit)
    items = list(islice((item for item in pages if _matches(item, tag, actor)), limit))
    columns = ("seq", "ts", "actor", "tag", "subject", "outcome", "detail")
    session.output.rows(columns, [_row(item) for item in items], {"items": items})


@verb(audit, "verify", example="sprat audit verify audit.jsonl --key fleet.vkey")
def verify(
    session: Session,
    export: Annotated[
        Path | None, typer.Argument(metavar="[EXPORT]", help="A file, to check it offline.")
    ] = None,
    *,
    device: DeviceOption = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="Of an export: the log's public key or its file; then witnesses'."),
    ] = None,
) -> None:
    """Check a log from its first record to its last: at the controller, or an export of it.

    Of an export the exit status is 0: intact, 1: tampered with, 2: cut off, 3: of another key.
    """
    if export is not None:
        audit_proofs.verify_export(session, export, key or [])
        return
    found = session.api.get(f"{_path(device)}/verify")
    fields = ("ok", "records", "expired", "head", "message")
    shown = {name: found.get(name) for name in fields if name in found}
    session.output.one(shown, found)
    if found.get("ok") is not True:
        whose = f"the log of {device}" if device else "the controller's log"
        raise CliError(
            f"{whose} was changed: its records are not those that were written", Exit.REFUSED
        )


def _path(device: str | None) -> str:
    return "audit" if device is None else f"devices/{words.device(device)}/audit"


def _matches(item: Json, tag: str | None, actor: str | None) -> bool:
    if item.get("expired"):
        return tag is None and actor is None
    body: Json = item.get("body") or item
    return tag in (None, body.get("tag")) and actor in (None, _who(body))


def _who(body: Json) -> str | None:
    return audit_events.actor_name(body.get("actor"))


def _row(item: Json) -> list[Cell]:
    if item.get("expired"):
        return [item.get("seq"), None, None, "(expired)", None, None, None]
    body: Json = item.get("body") or item
    return [
        item.get("seq", body.get("seq")),
        body.get("ts", item.get("at")),
        _who(body),
        body.get("tag"),
        body.get("subject"),
        body.get("outcome"),
        body.get("detail"),
    ]
