"""Recurring rollouts: follow the newest release of a channel, at each moment of a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from sprat_proto import fit
from sprat_proto.assignment import AS_DEVICE_DECIDES
from sprat_proto.policy import FitPolicy

from sprat_controller.cli import policy as policies
from sprat_controller.cli import strategy as strategies
from sprat_controller.cli import whole_ids, words
from sprat_controller.cli.client import Json
from sprat_controller.cli.output import Row
from sprat_controller.cli.policy import policy_options
from sprat_controller.cli.rollout import (
    Alias,
    Context,
    Device,
    Filter,
    KvType,
    Pinned,
    Revision,
    Slots,
    Where,
    expecting,
    rollout,
    served,
)
from sprat_controller.cli.strategy import answered, strategy_changes, strategy_options
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.rollout.strategy import Strategy

recurring = typer.Typer(help="Roll a channel out again and again.", rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="As rollout recurring list shows it.")]
COLUMNS = ("id", "name", "model", "channel", "alias", "rule", "due_at", "last")
OCCURRENCES = ("due_at", "decided_at", "release", "rollout", "reason")


def add_to(app: typer.Typer) -> None:
    """Add these verbs to those of rollouts, which the command has."""
    del app
    rollout.add_typer(recurring, name="recurring")


@verb(
    recurring,
    "add",
    example="sprat rollout recurring add qwen3-0.6b --channel stable --alias assistant"
    " --every '0 2 * * 2#1;Europe/Berlin'",
)
@policy_options
@strategy_options
def add(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    *,
    channel: Annotated[str, typer.Option(help="Whose newest release is rolled out.")],
    alias: Alias,
    every: Annotated[
        str,
        typer.Option(
            metavar="CRON[;ZONE]", help="When: '0 2 * * 2#1;Europe/Berlin', on first Tuesdays."
        ),
    ],
    where: Where = None,
    device: Device = None,
    matching: Filter = None,
    context: Context = 2048,
    slots: Slots = 0,
    kv_type: KvType = AS_DEVICE_DECIDES.kv_type,
    pinned: Pinned = False,
    policy: FitPolicy | None = None,
    strategy: Strategy | None = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
) -> None:
    """Have the newest release of a channel rolled out at each moment of a rule."""
    cron, zone = rule(every)
    body: Json = {
        "model": words.name(model, "a model name"),
        "channel": words.name(channel, "the name of a channel"),
        "cron": cron,
        "zone": zone,
        "alias": words.name(alias, "an alias"),
        "labels": words.labels(where or []),
        "devices": [words.device(one) for one in device or []],
        "filter": words.matching(matching),
        **served(context, slots, kv_type, pinned=pinned),
        **policies.body(policy),
        **strategies.body(strategy),
        **({"name": name} if name else {}),
    }
    _show(session, session.api.post("recurring-rollouts", body))


@verb(recurring, "list", example="sprat rollout recurring list")
def list_recurring(session: Session) -> None:
    """List recurring rollouts, when they are due, and what came of it last."""
    items = list(session.api.pages("recurring-rollouts"))
    session.output.rows(COLUMNS, [_row(one) for one in items], {"items": items})


@verb(recurring, "show", example="sprat rollout recurring show 0190c5ad")
def show(session: Session, recurrence_id: Id) -> None:
    """Show what came of each moment of a recurring rollout, newest first."""
    path = _path(session, recurrence_id)
    found = session.api.get(path)
    occurrences = list(session.api.pages(f"{path}/occurrences"))
    rows = [_occurrence(one) for one in occurrences]
    session.output.rows(OCCURRENCES, rows, {**found, "occurrences": occurrences})


@verb(
    recurring,
    "edit",
    example="sprat rollout recurring edit 0190c5ad --every '0 3 * * 2#1;Europe/Berlin' --retries 3",
)
@policy_options
@strategy_changes
def edit(
    session: Session,
    recurrence_id: Id,
    *,
    channel: Annotated[
        str | None, typer.Option(help="Whose newest release is rolled out from now on.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="CRON[;ZONE]", help="When from now on.")
    ] = None,
    where: Where = None,
    device: Device = None,
    matching: Filter = None,
    context: Annotated[
        int | None, typer.Option(min=64, max=1 << 20, help="Tokens to reserve memory for.")
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(
            min=0, max=fit.MAX_SLOTS, help="Requests answered at once; 0: as each decides."
        ),
    ] = None,
    kv_type: Annotated[
        str | None,
        typer.Option(metavar="|".join(fit.KV_BLOCKS), help="Of the context's keys and values."),
    ] = None,
    pinned: Annotated[
        bool | None, typer.Option("--pinned/--not-pinned", help="Never evicted for another.")
    ] = None,
    policy: FitPolicy | None = None,
    changes: Callable[[Strategy], Json] | None = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    revision: Revision = None,
) -> None:
    """Change what is said of it from its next moment on; what it rolled out before goes on."""
    asked: Json = {
        "channel": channel and words.name(channel, "the name of a channel"),
        "labels": words.labels(where) if where else None,
        "devices": [words.device(one) for one in device] if device else None,
        "filter": matching,
        "context": context,
        "slots": slots,
        "kv_type": kv_type,
        "pinned": pinned,
        "name": name,
        **policies.body(policy),
    }
    body = {key: value for key, value in asked.items() if value is not None}
    if every is not None:
        body["cron"], body["zone"] = rule(every)
    if not body and changes is None:
        raise words.wrong("expected something to change, such as --every, found nothing")
    path = _path(session, recurrence_id)
    expected = expecting(revision)
    if changes is not None:
        found = session.api.get(path)
        body["strategy"] = changes(answered(found.get("strategy")))
        # What is changed is what was found here.
        expected = {"expected_revision": found["revision"], **expected}
    _show(session, session.api.patch(path, {**body, **expected}))


@verb(recurring, "pause", example="sprat rollout recurring pause 0190c5ad")
def pause(session: Session, recurrence_id: Id, *, revision: Revision = None) -> None:
    """Have nothing be due until it is resumed; rollouts under way go on."""
    _show(session, session.api.post(f"{_path(session, recurrence_id)}/pause", expecting(revision)))


@verb(recurring, "resume", example="sprat rollout recurring resume 0190c5ad")
def resume(session: Session, recurrence_id: Id, *, revision: Revision = None) -> None:
    """Go on from the next moment; what was left out is not made up for."""
    _show(session, session.api.post(f"{_path(session, recurrence_id)}/resume", expecting(revision)))


@verb(recurring, "remove", example="sprat rollout recurring remove 0190c5ad")
def remove(session: Session, recurrence_id: Id, *, revision: Revision = None) -> None:
    """Forget a recurring rollout; what it rolled out goes on."""
    session.api.delete(_path(session, recurrence_id), expecting(revision))
    said = {"id": recurrence_id, "removed": True}
    session.output.one(said, said)


def rule(text: str) -> tuple[str, str]:
    """Read `CRON` or `CRON;ZONE`; the controller judges what they say."""
    cron, semicolon, zone = (part.strip() for part in text.partition(";"))
    if not cron or (semicolon and not zone) or ";" in zone:
        raise words.wrong(
            f"expected CRON or CRON;ZONE, such as '0 2 * * 2#1;Europe/Berlin', found {text!r}"
        )
    return cron, zone or "UTC"


def _path(session: Session, recurrence_id: str) -> str:
    path = "recurring-rollouts"
    return f"{path}/{whole_ids.whole(session.api, path, recurrence_id, 'a recurring rollout')}"


def _show(session: Session, found: Json) -> None:
    session.output.one(dict(zip(COLUMNS, _row(found), strict=True)), found)


def _row(one: Json) -> Row:
    last: Json = one.get("last") or {}
    return [
        *(one.get(name) for name in COLUMNS[:5]),
        f"{one.get('cron')} {one.get('zone')}",
        "paused" if one.get("paused_at") else one.get("due_at"),
        last.get("rollout_id") or _code(last),
    ]


def _occurrence(one: Json) -> Row:
    reason: Json = one.get("reason") or {}
    return [
        *(one.get(name) for name in ("due_at", "decided_at", "release", "rollout_id")),
        reason.get("message"),
    ]


def _code(occurrence: Json) -> str | None:
    reason: Json = occurrence.get("reason") or {}
    code = reason.get("code")
    return None if code is None else str(code)
