"""Fit: which variant would run where, and why no other; for one device, or all hardware at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, cast

import typer
from sprat_proto.assignment import AS_DEVICE_DECIDES
from sprat_proto.policy import FitPolicy

from sprat_controller.cli import planned, words
from sprat_controller.cli import policy as policies
from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.files import read_text, write_new
from sprat_controller.cli.output import Row, named, say, size
from sprat_controller.cli.policy import policy_options
from sprat_controller.cli.rollout import Context, KvType, Slots, served
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.rollout.compatibility.picture import draw

_MAX_PROFILE: Final = 256 << 10  # bytes
COLUMNS: Final = (
    *("variant", "verdict", "memory", "tokens/s", "basis", "first token ms", "loss %", "why"),
)


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    verb(app, "fit", example="sprat fit qwen3-0.6b --device kiosk-7")(fit)
    verb(app, "matrix", example="sprat matrix qwen3-0.6b --picture matrix.svg")(matrix)


@policy_options
def fit(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL[@RELEASE]", help="Default: the newest.")],
    *,
    device: Annotated[str | None, typer.Option(metavar="ID", help="This device.")] = None,
    hardware_class: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="As sprat matrix lists them.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A hardware profile as JSON, of hardware to come."),
    ] = None,
    context: Context = 2048,
    slots: Slots = 0,
    kv_type: KvType = AS_DEVICE_DECIDES.kv_type,
    policy: FitPolicy | None = None,
) -> None:
    """Show which variant of a model a device would get, and why not the others."""
    name, release = _model(model)
    body: Json = {"model": name, "release": release}
    body |= _on(device, hardware_class, profile)
    body |= served(context, slots, kv_type, pinned=False) | policies.body(policy)
    found = session.api.post("fit", body)
    verdicts: list[Json] = found.get("verdicts") or []
    rows = [_line(verdict, found.get("chosen")) for verdict in verdicts]
    session.output.rows(COLUMNS, rows, found)
    if found.get("chosen") is None:
        say(f"no variant of {found.get('model')}@{found.get('release')} fits")


@policy_options
def matrix(
    session: Session,
    model: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL[@RELEASE]]...", help="Default: the newest of each model."),
    ] = None,
    *,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw it, too.")] = None,
    context: Context = 2048,
    slots: Slots = 0,
    kv_type: KvType = AS_DEVICE_DECIDES.kv_type,
    policy: FitPolicy | None = None,
) -> None:
    """Show which models run on which hardware classes, in which variant."""
    named_models = ["@".join(part for part in _model(one) if part) for one in model or []]
    body: Json = {"models": named_models}
    body |= served(context, slots, kv_type, pinned=False) | policies.body(policy)
    found = session.api.post("fit/matrix", body)
    if picture is not None:
        write_new(picture, draw(found).encode(), "picture")
        say(f"the matrix is drawn in {picture}")
    columns, rows = _matrix_rows(found)
    session.output.rows(columns, rows, found)


def _model(text: str) -> tuple[str, str | None]:
    if "@" in text:
        return words.model_release(text)
    return words.name(text, "a model name"), None


def _on(device: str | None, hardware_class: str | None, profile: Path | None) -> Json:
    given = [one for one in (device, hardware_class, profile) if one is not None]
    if len(given) != 1:
        raise words.wrong(
            f"expected one of --device, --class and --profile, found {len(given)} of them"
        )
    if device is not None:
        return {"device": words.device(device)}
    if hardware_class is not None:
        return {"hardware_class": words.identifier(hardware_class, "a hardware class")}
    return {"profile": _profile(profile or Path())}


def _profile(path: Path) -> Json:
    try:
        read: object = json.loads(read_text(path, "hardware profile", _MAX_PROFILE))
    except (ValueError, RecursionError) as error:
        raise CliError(f"expected a hardware profile as JSON in {path}: {error}") from error
    if not isinstance(read, dict):
        raise CliError(f"expected a hardware profile as a JSON object in {path}")
    return cast("Json", read)


def _line(verdict: Json, chosen: str | None) -> Row:
    memory, *numbers = planned.numbers(verdict)
    is_chosen = verdict.get("variant") == chosen
    word = "chosen" if is_chosen else "accepted" if verdict.get("fits") else verdict.get("code")
    shown = size(memory) if memory else None
    return [verdict.get("variant"), word, shown, *numbers, verdict.get("message")]


def _matrix_rows(found: Json) -> tuple[tuple[str, ...], list[Row]]:
    columns: list[Json] = found.get("releases") or []
    releases = [f"{one['model']}@{one['release']}" for one in columns]
    known: list[Json] = found.get("cells") or []
    cells = {(cell["hardware_class"], f"{cell['model']}@{cell['release']}"): cell for cell in known}
    classes: list[Json] = found.get("classes") or []
    rows: list[Row] = []
    for one in classes:
        name = named(one["hardware_class"], simulated=one["simulated"])
        choices = [_cell(cells[one["hardware_class"], release]) for release in releases]
        budget = size(one["memory_budget_bytes"])
        rows.append([name, one["devices"], one["processor"] or one["arch"], budget, *choices])
    return ("class", "devices", "processor", "budget", *releases), rows


def _cell(cell: Json) -> str:
    verdicts: list[Json] = cell.get("verdicts") or []
    if cell.get("chosen"):
        return str(cell["chosen"])
    return str(verdicts[-1].get("code")) if verdicts else "no variant"
