"""Enrolment tokens: what a person carries to new devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from sprat_proto.claim import ClaimFile, write_file

from sprat_controller.cli import claims, whole_ids, words
from sprat_controller.cli.client import Json
from sprat_controller.cli.files import read_text
from sprat_controller.cli.output import Cell, say
from sprat_controller.cli.verbs import Session, verb

enrolment = typer.Typer(help="Claim tokens for new devices.", rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(enrolment, name="enrolment")


@verb(enrolment, "create", example="sprat enrolment create --batch kiosk --count 50 --group shop")
def create(
    session: Session,
    device: Annotated[
        str | None, typer.Argument(help="The name the device will have; or use --batch.")
    ] = None,
    *,
    batch: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Name devices PREFIX-1, PREFIX-2, ...")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Devices of the batch.")
    ] = None,
    group: Annotated[str, typer.Option(help="What they pin as their group.")] = "default",
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(metavar="ID", help="Only such devices, as cpu-aarch64.")
    ] = None,
    grace_days: Annotated[
        int, typer.Option(min=0, max=3650, help="How late they may renew by themselves.")
    ] = 365,
    ttl: Annotated[
        int, typer.Option(min=3600, max=30 * 86400, help="Seconds until it is worthless.")
    ] = 86400,
    qr: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also as a QR code, .svg or .png.")
    ] = None,
    image_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also for images: sprat-agent enrol --claim FILE."),
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TUF root that --image-file pins.")
    ] = None,
) -> None:
    """Make a token for a device or a batch of them; it is shown this once."""
    claims.check_picture(qr)
    claims.check_new(image_file, "the claim file")
    pinned = read_text(image_root, "TUF root") if image_root else None
    if pinned is not None and image_file is None:
        raise words.wrong("expected --image-root together with --image-file, found it alone")
    body = {
        **_names(device, batch, count),
        "group": group,
        "labels": words.labels(label or []),
        **({"hardware_id": hardware} if hardware else {}),
        "grace_days": grace_days,
        "ttl_s": ttl,
    }
    made = session.api.post("enrolment-tokens", body)
    token = str(made.get("token"))
    fields = ("id", "device_id", "prefix", "count", "group", "expires_at", "token")
    session.output.one({name: made.get(name) for name in fields if made.get(name)}, made)
    if session.output.is_live:
        say(claims.drawing(token))
    if qr is not None:
        claims.write_new(qr, claims.picture(token, qr))
    if image_file is not None:
        file = ClaimFile(session.api.url, token, pinned)
        claims.write_new(image_file, write_file(file))
    say("This token is shown only once; on the device: sprat-agent enrol --token TOKEN ...")


def _names(device: str | None, batch: str | None, count: int | None) -> dict[str, object]:
    if device is not None and batch is None and count is None:
        return {"device_id": words.device(device)}
    if device is None and batch is not None and count is not None:
        return {"prefix": words.device(batch), "count": count}
    raise words.wrong("expected the name of one device, or --batch PREFIX with --count N")


@verb(enrolment, "list", example="sprat enrolment list")
def list_tokens(session: Session) -> None:
    """List enrolment tokens, without their secrets."""
    items = list(session.api.pages("enrolment-tokens"))
    columns = ("id", "devices", "used", "group", "labels", "expires_at", "used_at", "revoked_at")
    rows = [[_shown(item, column) for column in columns] for item in items]
    session.output.rows(columns, rows, {"items": items})


def _shown(item: Json, column: str) -> Cell:
    match column:
        case "devices":
            return item.get("device_id") or f"{item.get('prefix')}-*"
        case "used":
            return f"{item.get('used', 0)} of {item.get('count', 1)}"
        case _:
            return item.get(column)


@verb(enrolment, "revoke", example="sprat enrolment revoke 0190c5ad")
def revoke(session: Session, token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Make an enrolment token worthless."""
    token_id = whole_ids.whole(session.api, "enrolment-tokens", token_id, "an enrolment token")
    session.api.delete(f"enrolment-tokens/{token_id}")
    session.output.one({"id": token_id, "revoked": True}, {"id": token_id, "revoked": True})
