"""Enrolment tokens: what a person carries to a new device, once."""

from __future__ import annotations

from typing import Annotated

import typer

from sprat_controller.cli import words
from sprat_controller.cli.output import say
from sprat_controller.cli.verbs import Session, verb

enrolment = typer.Typer(help="One-time tokens for new devices.", rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(enrolment, name="enrolment")


@verb(enrolment, "create", example="sprat enrolment create gateway-1 --label site=lyon")
def create(
    session: Session,
    device: Annotated[str, typer.Argument(help="The name the device will have.")],
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")
    ] = None,
    ttl: Annotated[
        int, typer.Option(min=60, max=30 * 86400, help="Seconds until it is worthless.")
    ] = 86400,
) -> None:
    """Make a token for one device; it is shown this once."""
    body = {"device_id": words.device(device), "labels": words.labels(label or []), "ttl_s": ttl}
    made = session.api.post("enrolment-tokens", body)
    fields = ("id", "device_id", "expires_at", "token")
    session.output.one({name: made.get(name) for name in fields}, made)
    say("This token is shown only once; on the device: sprat-agent enrol --token TOKEN ...")


@verb(enrolment, "list", example="sprat enrolment list")
def list_tokens(session: Session) -> None:
    """List enrolment tokens, without their secrets."""
    items = list(session.api.pages("enrolment-tokens"))
    columns = ("id", "device_id", "labels", "expires_at", "used_at", "revoked_at")
    rows = [[item.get(column) for column in columns] for item in items]
    session.output.rows(columns, rows, {"items": items})


@verb(enrolment, "revoke", example="sprat enrolment revoke 0190c5ad")
def revoke(session: Session, token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Make an enrolment token worthless."""
    session.api.delete(f"enrolment-tokens/{words.identifier(token_id, 'an enrolment token')}")
    session.output.one({"id": token_id, "revoked": True}, {"id": token_id, "revoked": True})
