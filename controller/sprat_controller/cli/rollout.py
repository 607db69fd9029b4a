"""Rollouts: see what would happen, approve it, make it happen, watch it, and hold it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from sprat_proto import fit
from sprat_proto.assignment import AS_DEVICE_DECIDES
from sprat_proto.policy import FitPolicy
from sprat_proto.states import GroupState

from sprat_controller.cli import planned, whole_ids, words
from sprat_controller.cli import policy as policies
from sprat_controller.cli import strategy as strategies
from sprat_controller.cli.client import Api, Json
from sprat_controller.cli.exits import CliError, Exit, NotFoundError
from sprat_controller.cli.output import Format, console, say, table, text
from sprat_controller.cli.passphrases import PassphraseFile, passphrase
from sprat_controller.cli.policy import policy_options
from sprat_controller.cli.strategy import strategy_changes, strategy_options
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.cli.watch import execution_row, show_rollout, watch_rollout
from sprat_controller.rollout.approval_override import MIN_WORDS, Verdict
from sprat_controller.rollout.requests import DEFAULT_CONTEXT
from sprat_controller.rollout.strategy import Strategy

rollout = typer.Typer(help="Bring a release to many devices.", rich_markup_mode=None)

Release = Annotated[str, typer.Argument(metavar="MODEL@RELEASE")]
Id = Annotated[
    str, typer.Argument(metavar="ID", help="As rollout list shows it, or its first 8 letters.")
]
Alias = Annotated[str, typer.Option(help="The name that applications ask for.")]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Devices with this label; repeatable, all must match."),
]
Device = Annotated[list[str] | None, typer.Option(metavar="ID", help="This device; repeatable.")]
Filter = Annotated[
    str | None,
    typer.Option(
        "--filter", metavar="FILTER", help="Devices that match it, such as 'memory >= 2GiB'."
    ),
]
Context = Annotated[int, typer.Option(min=64, max=1 << 20, help="Tokens to reserve memory for.")]
Slots = Annotated[
    int,
    typer.Option(min=0, max=fit.MAX_SLOTS, help="Requests answered at once; 0: as each decides."),
]
KvType = Annotated[
    str, typer.Option(metavar="|".join(fit.KV_BLOCKS), help="Of the context's keys and values.")
]
Pinned = Annotated[bool, typer.Option("--pinned", help="Never evicted for another model.")]
At = Annotated[str | None, typer.Option(help="RFC 3339, or 'YYYY-MM-DD HH:MM' in local time.")]
Name = Annotated[str | None, typer.Option(help="What people call the rollout.")]
Watch = Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")]
Revision = Annotated[
    int | None,
    typer.Option("--revision", min=0, help="Only if it is still at this one, as show says."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
GiveUp = Annotated[
    int | None, typer.Option("--timeout", min=1, help="Seconds to watch at most (status 124).")
]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(rollout, name="rollout")


@verb(rollout, "plan", example="sprat rollout plan qwen3-0.6b@1.3.0 --alias assistant")
@policy_options
@strategy_options
def plan(
    session: Session,
    release: Release,
    *,
    alias: Alias,
    where: Where = None,
    device: Device = None,
    matching: Filter = None,
    context: Context = DEFAULT_CONTEXT,
    slots: Slots = 0,
    kv_type: KvType = AS_DEVICE_DECIDES.kv_type,
    pinned: Pinned = False,
    policy: FitPolicy | None = None,
    bandwidth: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="That one device gets in a second, such as 2MiB."),
    ] = None,
    strategy: Strategy | None = None,
    save: Annotated[
        bool, typer.Option("--save", help="Keep it for `sprat rollout apply`, for 7 days.")
    ] = False,
) -> None:
    """Show what each device would get, fetch and take, and why not the others; changes nothing."""
    wanted = _wanted(release, alias, where, device, matching)
    wanted |= served(context, slots, kv_type, pinned=pinned) | policies.body(policy)
    wanted |= {} if bandwidth is None else {"bandwidth": words.memory(bandwidth)}
    wanted |= strategies.body(strategy)
    found = session.api.post("rollouts/plans" if save else "rollouts/plan", wanted)
    entries: list[Json] = found.get("devices") or []
    if session.output.form is Format.TABLE:
        console().print(table(planned.DRAWN, planned.drawn(entries)))
    else:
        session.output.rows(planned.COLUMNS, planned.lines(entries), found)
    if save:
        say(f"saved until {found['expires_at']}: sprat rollout apply {found['id']}")


@verb(rollout, "plans", example="sprat rollout plans 0190c5ad")
def plans(
    session: Session,
    plan_id: Annotated[
        str | None, typer.Argument(metavar="PLAN", help="Only this one, device by device.")
    ] = None,
) -> None:
    """List the plans that were saved; or show what one of them says of each device."""
    if plan_id is None:
        items = list(session.api.pages("rollouts/plans"))
        rows = [[one.get(column) for column in planned.KEPT] for one in items]
        session.output.rows(planned.KEPT, rows, {"items": items})
        return
    found = session.api.get(f"rollouts/plans/{_whole_plan(session, plan_id)}")
    devices: list[Json] = found.get("devices") or []
    rows = [[one.get(column) for column in planned.KEPT_LINES] for one in devices]
    session.output.rows(planned.KEPT_LINES, rows, found)


@verb(rollout, "apply", example="sprat rollout apply 0190c5ad --at '2026-12-01 03:00'")
def apply(
    session: Session,
    plan_id: Annotated[str, typer.Argument(metavar="PLAN", help="As rollout plan --save says.")],
    *,
    at: At = None,
    name: Name = None,
    yes: Yes = False,
    watch: Watch = False,
) -> None:
    """Create and start the rollout of a saved plan, exactly as it was shown or not at all."""
    plan_id = _whole_plan(session, plan_id)
    session.confirm(f"Roll out the plan {plan_id}?", yes=yes)
    _begin(
        session, f"rollouts/plans/{plan_id}/apply", {"name": name} if name else {}, at, watch=watch
    )


@verb(
    rollout,
    "start",
    example="sprat rollout start qwen3-0.6b@1.3.0 --alias assistant --where site=lyon"
    " --at '2026-12-01 03:00' --watch",
)
@policy_options
@strategy_options
def start(
    session: Session,
    what: Annotated[
        str, typer.Argument(metavar="MODEL@RELEASE|ID", help="Create one, or start what there is.")
    ],
    *,
    alias: Annotated[
        str | None, typer.Option(help="The name that applications ask for; not beside an ID.")
    ] = None,
    where: Where = None,
    device: Device = None,
    matching: Filter = None,
    at: At = None,
    max_in_progress: Annotated[
        int | None, typer.Option(min=1, help="Devices under way at once; default: no limit.")
    ] = None,
    timeout: Annotated[
        int | None,
        typer.Option(min=1, max=366 * 86400, help="Seconds that one device may take: a day."),
    ] = None,
    context: Context = DEFAULT_CONTEXT,
    slots: Slots = 0,
    kv_type: KvType = AS_DEVICE_DECIDES.kv_type,
    pinned: Pinned = False,
    policy: FitPolicy | None = None,
    strategy: Strategy | None = None,
    name: Name = None,
    yes: Yes = False,
    watch: Watch = False,
    revision: Revision = None,
) -> None:
    """Create a rollout and start it, now or at a time, once approved; or start one by its ID."""
    if "@" not in what:
        beside = {
            "--alias": alias,
            "--where": where,
            "--device": device,
            "--filter": matching,
            "--at": at,
            "--max-in-progress": max_in_progress,
            "--timeout": timeout,
            "--context": context != DEFAULT_CONTEXT,
            "--slots": slots,
            "--pinned": pinned,
            "--kv-type": kv_type != AS_DEVICE_DECIDES.kv_type,
            "--name": name,
            "a policy": policy,
            "a strategy": strategy,
        }
        said = [option for option, value in beside.items() if value]
        _start_created(session, what, said, revision, yes=yes, watch=watch)
        return
    if alias is None:
        raise words.wrong(f"expected --alias NAME beside {what}, found none")
    if revision is not None:
        raise words.wrong(f"expected --revision beside the ID of a rollout, found {what}")
    release = what
    wanted = _wanted(release, alias, where, device, matching)
    wanted |= served(context, slots, kv_type, pinned=pinned) | policies.body(policy)
    beside = {"max_in_progress": max_in_progress, "execution_timeout_s": timeout, "name": name}
    body = {**wanted, **{key: value for key, value in beside.items() if value is not None}}
    body |= strategies.body(strategy)
    if not yes:
        asked = session.api.post("rollouts/plan", {**wanted, **strategies.body(strategy)})
        session.confirm(planned.question(asked, release), yes=False)
    _begin(session, "rollouts", body, at, watch=watch)


@verb(rollout, "watch", example="sprat rollout watch 0190c5ad --timeout 600")
def watch(session: Session, rollout_id: Id, timeout: GiveUp = None) -> None:
    """Watch a rollout to its end: status 0 if all succeeded, 3 if some did not."""
    watch_rollout(session, _whole(session, rollout_id), timeout_s=timeout)


@verb(rollout, "list", example="sprat rollout list")
def list_rollouts(session: Session) -> None:
    """List rollouts."""
    items = list(session.api.pages("rollouts"))
    columns = ("id", "name", "model", "release", "alias", "state", "start_at", "created_at")
    rows = [[item.get(column) for column in columns] for item in items]
    session.output.rows(columns, rows, {"items": items})


@verb(rollout, "show", example="sprat rollout show 0190c5ad")
def show(session: Session, rollout_id: Id) -> None:
    """Show a rollout and how each device stands."""
    path = f"rollouts/{_whole(session, rollout_id)}"
    found = session.api.get(path)
    executions = list(session.api.pages(f"{path}/executions"))
    document = {**found, "executions": executions}
    if session.output.form is Format.JSON:
        session.output.json(document)
        return
    show_rollout(session, found)
    columns = ("device", "state", "step", "variant", "reason")
    session.output.rows(columns, [execution_row(one) for one in executions], document)


@verb(rollout, "edit", example="sprat rollout edit 0190c5ad --max-in-progress 50 --retries 5")
@strategy_changes
def edit(
    session: Session,
    rollout_id: Id,
    *,
    max_in_progress: Annotated[
        int | None, typer.Option(min=0, help="Devices under way at once; 0 is no limit.")
    ] = None,
    timeout: Annotated[
        int | None, typer.Option(min=1, max=366 * 86400, help="Seconds that one device may take.")
    ] = None,
    at: At = None,
    name: Name = None,
    changes: Callable[[Strategy], Json] | None = None,
    revision: Revision = None,
) -> None:
    """Change what of a rollout has not started; approvals of it are void then."""
    given = {"max_in_progress": max_in_progress, "execution_timeout_s": timeout, "name": name}
    body: Json = {key: value for key, value in given.items() if value is not None}
    if at is not None:
        body["start_at"] = words.moment(at, session.around.clock()).isoformat()
    if not body and changes is None:
        raise words.wrong("expected something to change, such as --max-in-progress, found nothing")
    path = f"rollouts/{_whole(session, rollout_id)}"
    expected = expecting(revision)
    if changes is not None:
        found = session.api.get(path)
        body["strategy"] = changes(strategies.answered(found.get("strategy")))
        # What is changed is what was found here.
        expected = {"expected_revision": found["revision"], **expected}
    show_rollout(session, session.api.patch(path, {**body, **expected}))


@verb(rollout, "approve", example="sprat rollout approve 0190c5ad --key ann.pem")
def approve(
    session: Session,
    rollout_id: Id,
    *,
    key: Annotated[
        Path | None,
        typer.Option(help="Your approver's private key: devices check its signature themselves."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
    revision: Revision = None,
) -> None:
    """Approve a rollout that somebody else started: exactly what is shown, signed here."""
    # Signing imports what the other verbs can do without.
    from sprat_controller.cli import approving  # noqa: PLC0415 - see above
    from sprat_controller.publisher.signing import load_key  # noqa: PLC0415

    path = f"rollouts/{_whole(session, rollout_id)}"
    signing_key = load_key(key, passphrase(session, passphrase_file)) if key else None
    found = approving.frozen(session.api.get(f"{path}/approval"), rollout_id)
    for line in approving.in_words(session.api, found):
        say(text(line))
    session.confirm("Approve exactly this?", yes=yes)
    body = {**approving.body(found, signing_key), **expecting(revision)}
    _show_approval(session, session.api.post(f"{path}/approve", body))


@verb(rollout, "approval", example="sprat rollout approval 0190c5ad")
def approval(session: Session, rollout_id: Id) -> None:
    """Show who approved a rollout, and what is missing."""
    path = f"rollouts/{_whole(session, rollout_id)}/approval"
    _show_approval(session, session.api.get(path))


@verb(rollout, "deny", example="sprat rollout deny 0190c5ad --reason 'not on a Friday'")
def deny(
    session: Session,
    rollout_id: Id,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")] = "",
    revision: Revision = None,
) -> None:
    """End a rollout that waits for approvals."""
    path = f"rollouts/{_whole(session, rollout_id)}/deny"
    show_rollout(session, session.api.post(path, {"reason": reason, **expecting(revision)}))


@verb(
    rollout,
    "override-approval",
    example="sprat rollout override-approval 0190c5ad --reason 'the model leaks secrets' --yes",
)
def override_approval(
    session: Session,
    rollout_id: Id,
    *,
    reason: Annotated[
        str, typer.Option(help=f"Why it cannot wait, in {MIN_WORDS} words or more: all see it.")
    ],
    yes: Yes = False,
    revision: Revision = None,
) -> None:
    """Let a rollout go in an emergency without its approvals; somebody else reviews it after."""
    rollout_id = _whole(session, rollout_id)
    session.confirm(
        f"Let the rollout {rollout_id} go without approvals? It is an alarm in the audit log.",
        yes=yes,
    )
    _act(session, rollout_id, "override-approval", {"reason": reason, **expecting(revision)})


@verb(
    rollout,
    "review-override",
    example="sprat rollout review-override 0190c5ad --verdict accepted --note 'nobody was awake'",
)
def review_override(
    session: Session,
    rollout_id: Id,
    *,
    verdict: Annotated[str, typer.Option(metavar="|".join(Verdict), help="Was it right?")],
    note: Annotated[str, typer.Option(help="Why, for the audit log.")] = "",
    revision: Revision = None,
) -> None:
    """Accept or reject that somebody else let a rollout go without approvals; it stops nothing."""
    if verdict not in tuple(Verdict):
        raise words.wrong(f"expected --verdict {' or '.join(Verdict)}, found {verdict!r}")
    body = {"verdict": verdict, "note": note, **expecting(revision)}
    _act(session, rollout_id, "review-override", body)


@verb(rollout, "pause", example="sprat rollout pause 0190c5ad")
def pause(session: Session, rollout_id: Id, *, revision: Revision = None) -> None:
    """Start no further device; those under way go on."""
    _act(session, rollout_id, "pause", expecting(revision))


@verb(rollout, "resume", example="sprat rollout resume 0190c5ad")
def resume(session: Session, rollout_id: Id, *, revision: Revision = None) -> None:
    """Go on after a pause; after an abort, only new failures count for another."""
    _act(session, rollout_id, "resume", expecting(revision))


@verb(rollout, "promote", example="sprat rollout promote 0190c5ad")
def promote(
    session: Session,
    rollout_id: Id,
    *,
    group: Annotated[
        int | None, typer.Option(min=0, help="Its number, from 0; default: the one under way.")
    ] = None,
    revision: Revision = None,
) -> None:
    """Let the next group start now, whatever this one waits for."""
    body = expecting(revision)
    if group is None:
        path = f"rollouts/{_whole(session, rollout_id)}"
        found = session.api.get(path)
        group = _under_way(found)
        # What is promoted is what was found here.
        body = {"expected_revision": found["revision"], **body}
    _act(session, rollout_id, "promote", {**body, "group": group})


@verb(rollout, "retry-failed", example="sprat rollout retry-failed 0190c5ad")
def retry_failed(session: Session, rollout_id: Id, *, revision: Revision = None) -> None:
    """Try again on all devices that failed, timed out or went back by themselves."""
    _act(session, rollout_id, "retry-failed", expecting(revision))


@verb(rollout, "roll-back", example="sprat rollout roll-back 0190c5ad --yes")
def roll_back(
    session: Session, rollout_id: Id, *, yes: Yes = False, revision: Revision = None
) -> None:
    """Return all devices to what they ran before it; no model is fetched for that."""
    rollout_id = _whole(session, rollout_id)
    session.confirm(f"Take back what the rollout {rollout_id} brought?", yes=yes)
    _act(session, rollout_id, "roll-back", expecting(revision))


@verb(rollout, "stop", example="sprat rollout stop 0190c5ad --yes")
def stop(session: Session, rollout_id: Id, *, yes: Yes = False, revision: Revision = None) -> None:
    """End a rollout; devices that are done keep what they have."""
    rollout_id = _whole(session, rollout_id)
    session.confirm(f"Stop the rollout {rollout_id} for good?", yes=yes)
    _act(session, rollout_id, "stop", expecting(revision))


def expecting(revision: int | None) -> Json:
    """Return what a request says of the revision that was looked at."""
    return {} if revision is None else {"expected_revision": revision}


def _whole(session: Session, rollout_id: str) -> str:
    return whole_ids.whole(session.api, "rollouts", rollout_id, "a rollout")


def _whole_plan(session: Session, plan_id: str) -> str:
    return whole_ids.whole(session.api, "rollouts/plans", plan_id, "a plan")


def _under_way(found: Json) -> int:
    """Return the number of the first group that is not through."""
    for one in found.get("groups") or ():
        if one["state"] != GroupState.FINISHED:
            return int(one["number"])
    raise CliError(f"every group of the rollout {found['id']} is through", Exit.CONFLICT)


def _show_approval(session: Session, found: Json) -> None:
    fields = ("rollout_id", "state", "approved_by", "missing")
    session.output.one({name: found.get(name) for name in fields}, found)


def _act(session: Session, rollout_id: str, action: str, body: Json) -> None:
    path = f"rollouts/{_whole(session, rollout_id)}/{action}"
    show_rollout(session, session.api.post(path, body))


def _begin(session: Session, path: str, body: Json, at: str | None, *, watch: bool) -> None:
    """Create a rollout and start it, now or at a time; then watch or show it."""
    if at is not None:
        body = {**body, "start_at": words.moment(at, session.around.clock()).isoformat()}
    made = session.api.post(path, body)
    if at is None:
        made = _started(session.api, made)
    _show_or_watch(session, made, watch=watch)


def _show_or_watch(session: Session, made: Json, *, watch: bool) -> None:
    if watch:
        say(f"rollout {made['id']}")
        watch_rollout(session, str(made["id"]), timeout_s=None)
    else:
        show_rollout(session, made)


def _start_created(
    session: Session,
    what: str,
    beside: list[str],
    revision: int | None,
    *,
    yes: bool,
    watch: bool,
) -> None:
    """Start a rollout that was created or scheduled, whatever time it was scheduled for."""
    if beside:
        raise words.wrong(
            "expected MODEL@RELEASE to create a rollout, or the ID of one alone to start it, found"
            f" {what!r} with {beside[0]}"
        )
    rollout_id = _whole(session, what)
    session.confirm(f"Start the rollout {rollout_id} now?", yes=yes)
    try:
        made = session.api.post(f"rollouts/{rollout_id}/start", expecting(revision))
    except NotFoundError as error:
        raise NotFoundError(f"{error.message}; to create one, say MODEL@RELEASE") from error
    _show_or_watch(session, made, watch=watch)


def _started(api: Api, made: Json) -> Json:
    try:
        return api.post(f"rollouts/{made['id']}/start")
    except CliError as error:
        raise CliError(
            f"the rollout {made['id']} was created but did not start: {error.message}", error.status
        ) from error


def _wanted(
    release: str,
    alias: str,
    where: list[str] | None,
    device: list[str] | None,
    matching: str | None,
) -> Json:
    model, version = words.model_release(release)
    filtered = words.matching(matching)
    return {
        "model": model,
        "release": version,
        "alias": words.name(alias, "an alias"),
        "labels": words.labels(where or []),
        "devices": [words.device(one) for one in device or []],
        # A controller of before knows no filter: it is only told of one that there is.
        **({"filter": filtered} if filtered else {}),
    }


def served(context: int, slots: int, kv_type: str, *, pinned: bool) -> Json:
    """Return how it is to be served, without what a controller of before would not know."""
    if kv_type not in fit.KV_BLOCKS:
        raise words.wrong(f"expected a KV type {' or '.join(fit.KV_BLOCKS)}, found {kv_type!r}")
    terms = {"slots": slots, "kv_type": kv_type, "pinned": pinned}
    as_ever = {"slots": 0, "kv_type": AS_DEVICE_DECIDES.kv_type, "pinned": False}
    said = {name: value for name, value in terms.items() if value != as_ever[name]}
    return {"context": context, **said}
