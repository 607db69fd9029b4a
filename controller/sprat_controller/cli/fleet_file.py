"""A fleet as a file: what it would change (`plan`), and having it so (`apply`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from sprat_proto.states import RolloutState

from sprat_controller.cli import words
from sprat_controller.cli.client import Api, Json
from sprat_controller.cli.exits import CliError, Exit, NotFoundError
from sprat_controller.cli.output import say
from sprat_controller.cli.rollout import expecting
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.cli.yaml_files import read_yaml
from sprat_controller.errors import RequestError
from sprat_controller.rollout import fit_policy, fleet_file, strategy_said
from sprat_controller.rollout.fleet_file import (
    Begin,
    Brought,
    Change,
    Deed,
    FleetFile,
    FleetFileError,
    PolicySaid,
    Relabel,
    Sign,
    Standing,
    Start,
    Stop,
)

DEFAULT: Final = Path("fleet.yaml")
COLUMNS: Final = ("sign", "what", "line")
File = Annotated[Path, typer.Argument(metavar="FILE", help="What the fleet should be.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    verb(app, "plan", example="sprat plan fleet.yaml")(plan)
    verb(app, "apply", example="sprat apply fleet.yaml --yes")(apply)


def plan(session: Session, file: File = DEFAULT) -> None:
    """Show what a file would change: status 0 if nothing, 2 if something."""
    changes = _changes(session.api, read(file))
    _show(session, changes)
    if fleet_file.would_change(changes):
        raise typer.Exit(Exit.CHANGES)


def apply(session: Session, file: File = DEFAULT, *, yes: Yes = False) -> None:
    """Have the fleet as a file says; a second time changes nothing."""
    changes = _changes(session.api, read(file))
    _show(session, changes)
    deeds = fleet_file.in_order(changes)
    if not deeds:
        return
    session.confirm(f"Make {len(deeds)} changes?", yes=yes)
    for number, deed in enumerate(deeds):
        try:
            _do(session.api, deed)
        except CliError as error:
            raise CliError(
                f"after {number} of {len(deeds)} changes: {error.message}", error.status
            ) from error


def read(path: Path) -> FleetFile:
    """Return what the file says.

    Raises:
        CliError: It cannot be read, or is no such file.
    """
    said = read_yaml(path, FleetFile, "fleet file")
    for device in said.devices:
        words.device(device)
    return said


def _changes(api: Api, said: FleetFile) -> list[Change]:
    found = api.pages("rollouts", {"name": fleet_file.PREFIX})
    standing = [standing_of(one) for one in found if _is_ours(one)]
    labels = {str(one["id"]): one["labels"] for one in api.pages("devices")} if said.devices else {}
    try:
        changes = fleet_file.diff(said, standing, labels, _newest(api, said))
    except FleetFileError as error:
        raise words.wrong(str(error)) from error
    deeds = fleet_file.in_order(changes)
    relabels = any(isinstance(deed, Relabel) for deed in deeds)
    for deed in deeds:
        if isinstance(deed, Start):
            _check_release(api, deed)
            _check_target(api, deed, relabels=relabels)
    return changes


def _check_release(api: Api, deed: Start) -> None:
    """Refuse a release that is not there: a plan that cannot be applied is none."""
    model, _, release = deed.brings.release.partition("@")
    try:
        api.get(f"models/{model}/releases/{release}")
    except NotFoundError as error:
        name = deed.name.removeprefix(fleet_file.PREFIX)
        raise words.wrong(
            f"rollouts.{name}.release: expected a release that was published, found"
            f" {deed.brings.release}: push it first, or see `sprat models list`"
        ) from error


def _check_target(api: Api, deed: Start, *, relabels: bool) -> None:
    """Refuse devices that are not there, and a target with nobody in it.

    Nobody may be in it yet where devices are to get other labels first.
    """
    where = f"rollouts.{deed.name.removeprefix(fleet_file.PREFIX)}"
    try:
        planned = api.post("rollouts/plan", _body(deed.brings))
    except NotFoundError as error:
        raise words.wrong(f"{where}: {error.message}") from error
    if not planned.get("devices") and not relabels:
        raise words.wrong(
            f"{where}: expected a target with at least one device in it, found nobody: enrol or"
            " label devices first"
        )


def _newest(api: Api, said: FleetFile) -> dict[str, str]:
    """Return the release that each channel of the file stands for, if it has one."""
    found: dict[str, str] = {}
    for named in fleet_file.channels(said):
        model, _, channel = named.partition("@")
        for one in api.pages(f"models/{model}/channels"):
            if one["name"] == channel and one["newest"] is not None:
                found[named] = one["newest"]
    return found


def _is_ours(rollout: Json) -> bool:
    return str(rollout.get("name", "")).startswith(fleet_file.PREFIX)


def standing_of(rollout: Json) -> Standing:
    """Return a rollout as the controller answers it.

    Raises:
        CliError: It says something that this `sprat` does not know.
    """
    try:
        policy = msgspec.convert(rollout["policy"], PolicySaid | None)
        return Standing(
            id=rollout["id"],
            name=rollout["name"],
            state=RolloutState(rollout["state"]),
            revision=rollout.get("revision"),
            brings=Brought(
                release=f"{rollout['model']}@{rollout['release']}",
                alias=rollout["alias"],
                labels=rollout["target"]["labels"],
                devices=frozenset(rollout["target"]["devices"]),
                filter=rollout["target"].get("filter", ""),
                context=rollout["context"],
                slots=rollout["slots"],
                kv_type=rollout["kv_type"],
                pinned=rollout["pinned"],
                policy=None if policy is None else policy.asked(),
                strategy=strategy_said.asked(rollout.get("strategy") or {}),
            ),
        )
    except (KeyError, TypeError, ValueError, RequestError) as error:
        raise CliError(
            f"expected of rollout {rollout.get('id')} what this sprat knows, found another answer"
            f" ({error}): is the controller newer or older?"
        ) from error


def _show(session: Session, changes: Sequence[Change]) -> None:
    document = {
        "changes": [
            {"sign": one.sign.value, "what": one.what, "lines": [*one.lines]} for one in changes
        ]
    }
    rows = [[one.sign.value, one.what, line] for one in changes for line in one.lines or ("",)]
    session.output.rows(COLUMNS, rows, document)
    counts = {sign: sum(one.sign is sign for one in changes) for sign in Sign}
    say(
        f"{counts[Sign.ADD]} to add, {counts[Sign.CHANGE]} to change, {counts[Sign.REMOVE]} to stop"
        if fleet_file.would_change(changes)
        else "nothing to change"
    )


def _do(api: Api, deed: Deed) -> None:
    match deed:
        case Start(name, brings):
            made = api.post("rollouts", {"name": name, **_body(brings)})
            api.post(f"rollouts/{made['id']}/start")
        case Begin(rollout_id, revision):
            api.post(f"rollouts/{rollout_id}/start", expecting(revision))
        case Stop(rollout_id, revision):
            api.post(f"rollouts/{rollout_id}/stop", expecting(revision))
        case Relabel(device_id, labels):
            api.patch(f"devices/{device_id}", {"labels": dict(labels)})


def _body(brings: Brought) -> Json:
    model, _, release = brings.release.partition("@")
    strategy = strategy_said.said(brings.strategy)
    return {
        "model": model,
        "release": release,
        "alias": brings.alias,
        "labels": dict(brings.labels),
        "devices": sorted(brings.devices),
        **({"filter": brings.filter} if brings.filter else {}),
        "context": brings.context,
        "slots": brings.slots,
        "kv_type": brings.kv_type,
        "pinned": brings.pinned,
        **({} if brings.policy is None else {"policy": fit_policy.said(brings.policy)}),
        **({"strategy": strategy} if strategy else {}),
    }
