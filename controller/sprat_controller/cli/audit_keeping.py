"""How long audit records are kept, and which are kept all the same."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from sprat_controller.audit.expiries import FLOOR_DAYS, MAX_DAYS
from sprat_controller.cli import words
from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.verbs import Session, verb

retention = typer.Typer(help="How long records are kept.", rich_markup_mode=None)
hold = typer.Typer(help="Records that are kept all the same.", rich_markup_mode=None)

Tag = Annotated[str, typer.Option(help="Only of records with this tag; else of all others.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the log.")]
_RETENTION: Final = ("tag", "days", "set_at", "set_by", "reason")
_HOLD: Final = ("id", "device_id", "rollout_id", "since", "reason", "added_at", "released_at")
_FOR_EVER: Final = "ever"
_ALL: Final = "(all others)"


def add_to(audit: typer.Typer) -> None:
    """Add these verbs to the group."""
    audit.add_typer(retention, name="retention")
    audit.add_typer(hold, name="hold")


@verb(retention, "list", example="sprat audit retention list")
def list_retention(session: Session) -> None:
    """List how long records are kept; what is not listed is kept for ever."""
    items = list(session.api.pages("audit/retention"))
    rows = [list(_policy(one).values()) for one in items]
    session.output.rows(_RETENTION, rows, {"items": items})


@verb(retention, "set", example="sprat audit retention set --days 365")
def set_retention(
    session: Session,
    *,
    days: Annotated[str, typer.Option(metavar="N|ever", help="So many days, or for ever.")],
    tag: Tag = "",
    force_reason: Annotated[
        str, typer.Option(help=f"Why it may be shorter than {FLOOR_DAYS} days; it is recorded.")
    ] = "",
) -> None:
    """Have records expire: their bodies are erased, and their hashes go on proving the rest."""
    body = {"tag": tag, "days": _days(days), "force_reason": force_reason}
    made = session.api.post("audit/retention", body)
    session.output.one(_policy(made), made)


@verb(retention, "clear", example="sprat audit retention clear --tag api:request:denied")
def clear_retention(session: Session, *, tag: Tag = "") -> None:
    """Remove a policy: its records are kept as all others are, or for ever."""
    session.api.delete("audit/retention", {"tag": tag})
    said = {"tag": tag or _ALL, "cleared": True}
    session.output.one(said, said)


@verb(hold, "list", example="sprat audit hold list")
def list_holds(session: Session) -> None:
    """List what is kept whatever a policy says, and what was."""
    items = list(session.api.pages("audit/holds"))
    rows = [list(_shown(one).values()) for one in items]
    session.output.rows(_HOLD, rows, {"items": items})


@verb(hold, "add", example="sprat audit hold add --device gateway-1 --reason 'case 4711'")
def add_hold(
    session: Session,
    *,
    reason: Reason,
    device: Annotated[str | None, typer.Option(help="What is about it, and its own log.")] = None,
    rollout: Annotated[
        str | None, typer.Option(help="What is about it, and its devices' own logs.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339: only from then on.")] = None,
) -> None:
    """Keep records that would expire: those that meet all that is said."""
    if device is None and rollout is None and since is None:
        raise CliError("expected --device, --rollout or --since, found none of them", Exit.USAGE)
    body: Json = {"reason": reason}
    if device is not None:
        body["device_id"] = words.device(device)
    body |= {"rollout_id": rollout} if rollout is not None else {}
    body |= {"since": since} if since is not None else {}
    made = session.api.post("audit/holds", body)
    session.output.one(_shown(made), made)


@verb(hold, "release", example="sprat audit hold release ID --reason 'case 4711 is closed'")
def release_hold(
    session: Session,
    hold_id: Annotated[str, typer.Argument(metavar="ID", help="As `sprat audit hold list`.")],
    *,
    reason: Reason,
) -> None:
    """Let what a hold kept expire as all others do."""
    named = words.identifier(hold_id, "a hold")
    made = session.api.post(f"audit/holds/{named}/release", {"reason": reason})
    session.output.one(_shown(made), made)


def _days(text: str) -> int | None:
    if text == _FOR_EVER:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_DAYS):
        raise CliError(f"expected 1 to {MAX_DAYS} days, or `ever`, found {text!r}", Exit.USAGE)
    return int(text)


def _policy(one: Json) -> dict[str, Any]:
    days = one.get("days")
    shown = {"tag": one.get("tag") or _ALL, "days": _FOR_EVER if days is None else days}
    return shown | {name: one.get(name) for name in _RETENTION[2:]}


def _shown(one: Json) -> dict[str, Any]:
    return {name: one.get(name) for name in _HOLD}
