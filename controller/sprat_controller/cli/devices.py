"""Devices: what they are, what they run, and what people call them."""

from __future__ import annotations

from typing import Annotated

import typer
from sprat_proto.rates import FEMTO
from sprat_proto.states import DeviceState

from sprat_controller.cli import words
from sprat_controller.cli.client import Json
from sprat_controller.cli.output import Cell, named, size
from sprat_controller.cli.verbs import Session, verb

devices = typer.Typer(help="The devices of the fleet.", rich_markup_mode=None)
GIGA = 10**9
DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE")]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(devices, name="devices")


@verb(devices, "list", example="sprat devices list --where site=lyon --state IN_SYNC")
def list_devices(
    session: Session,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only with this label; repeatable."),
    ] = None,
    matching: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="FILTER", help="Only those that match it, such as 'cores >= 4'."
        ),
    ] = None,
    state: Annotated[DeviceState | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
) -> None:
    """List devices."""
    params = {
        "label": _pairs(where),
        "state": state.value if state else None,
        "filter": matching,
    }
    items = list(session.api.pages("devices", params, limit))
    columns = ("device", "state", "online", "class", "running", "labels", "last_seen_at")
    session.output.rows(columns, [_row(item) for item in items], {"items": items})


@verb(devices, "show", example="sprat devices show gateway-1")
def show(session: Session, device: DeviceArgument) -> None:
    """Show one device: hardware, what it runs, its latest executions."""
    found = session.api.get(f"devices/{words.device(device)}")
    session.output.one(_fields(found), found)


@verb(devices, "label", example="sprat devices label gateway-1 site=lyon ring=canary old-")
def label(
    session: Session,
    device: DeviceArgument,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="KEY- removes a label.")
    ],
) -> None:
    """Set or remove labels; the others stay."""
    path = f"devices/{words.device(device)}"
    wanted = words.label_changes(changes)
    labels = {**session.api.get(path).get("labels", {}), **wanted}
    kept = {key: value for key, value in labels.items() if value is not None}
    changed = session.api.patch(path, {"labels": kept})
    session.output.one({"device": device, "labels": kept}, changed)


@verb(devices, "remove", example="sprat devices remove gateway-1 --yes")
def remove(
    session: Session,
    device: DeviceArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Revoke a device: it is never spoken to again under this identity."""
    path = f"devices/{words.device(device)}"
    session.confirm(f"Revoke {device}, so that it must be enrolled anew?", yes=yes)
    session.api.delete(path)
    session.output.one({"device": device, "removed": True}, {"id": device, "removed": True})


@verb(devices, "release-quarantine", example="sprat devices release-quarantine gateway-1 --yes")
def release_quarantine(
    session: Session,
    device: DeviceArgument,
    *,
    accept_older: Annotated[
        bool,
        typer.Option(
            "--accept-older",
            help="Its next renewal may follow any of its certificates: after a copy is gone.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give a device plans again that was away too long, or may have been copied."""
    path = f"devices/{words.device(device)}"
    session.confirm(f"Is {device} the device it says it is, and the only one?", yes=yes)
    released = session.api.post(f"{path}/release-quarantine", {"accept_older": accept_older})
    session.output.one({"device": device, "released": True}, released)


def _pairs(where: list[str] | None) -> list[str] | None:
    return [f"{key}={value}" for key, value in words.labels(where or []).items()] or None


def _row(item: Json) -> list[Cell]:
    return [
        named(item.get("id"), simulated=item.get("simulated")),
        item.get("state"),
        item.get("online"),
        item.get("hardware_class"),
        _running(item),
        item.get("labels"),
        item.get("last_seen_at"),
    ]


def _fields(found: Json) -> dict[str, Cell]:
    profile: Json = found.get("profile") or {}
    executions: list[Json] = found.get("executions") or []
    return {
        "device": named(found.get("id"), simulated=found.get("simulated")),
        "state": found.get("state"),
        "online": found.get("online"),
        "carrier": found.get("carrier"),
        "group": found.get("group"),
        "quarantine": _quarantine(found),
        "labels": found.get("labels"),
        "hardware class": found.get("hardware_class"),
        "hardware": _hardware(profile),
        "processor": _processor(profile),
        "limits": _limits(profile),
        "now": _moment(profile),
        "measured": _measured(profile),
        "running": _running(found),
        "fell back": _fallbacks(found.get("fallbacks") or {}),
        "observed": _observed(found.get("observed") or []),
        "assignment": found.get("assignment_version"),
        "agent": found.get("agent_version"),
        "enrolled": found.get("enrolled_at"),
        "certificate until": found.get("certificate_ends_at"),
        "last seen": found.get("last_seen_at"),
        "executions": "; ".join(
            f"{one.get('rollout_id')} {one.get('state')}" for one in executions[:5]
        ),
    }


def _fallbacks(fallbacks: dict[str, Json]) -> str | None:
    """Say what runs instead of what the device had proved."""
    return (
        "; ".join(
            f"{alias}: {str(one.get('found'))[:12]} answers, not {str(one.get('expected'))[:12]},"
            f" which it had proved (noticed {one.get('at')})"
            for alias, one in sorted(fallbacks.items())
        )
        or None
    )


def _observed(rates: list[Json]) -> str | None:
    """Say how fast the device was seen to answer, beside its class."""
    return (
        "; ".join(
            f"{one.get('model')}@{one.get('release')}+{one.get('variant')}"
            f" {_per_second(one, '')}, {one.get('samples')} answers"
            f" (its class: {_per_second(one, 'class_')}, {one.get('class_devices')} devices)"
            for one in rates
        )
        or None
    )


def _per_second(rates: Json, of: str) -> str:
    decode, prefill = (rates.get(f"{of}{kind}_milli_tps") for kind in ("decode", "prefill"))
    said = [f"{decode / 1000:.1f} tokens a second"] if decode else []
    said += [f"{prefill / 1000:.0f} of a prompt"] if prefill else []
    return " and ".join(said) or "no rate yet"


def _quarantine(found: Json) -> str | None:
    since = found.get("quarantined_at")
    return f"{found.get('quarantine_reason')}, since {since}" if since else None


def _hardware(profile: Json) -> str | None:
    if not profile:
        return None
    memory, budget = profile.get("memory_bytes", 0), profile.get("memory_budget_bytes", 0)
    return (
        f"{profile.get('arch')}, {profile.get('cores')} cores, {size(memory)} of memory"
        f" ({size(budget)} for models), {size(profile.get('disk_free_bytes', 0))} of disk free"
    )


def _processor(profile: Json) -> str | None:
    kinds: list[Json] = profile.get("core_kinds") or []
    shown = " + ".join(
        f"{kind['count']} of capacity {kind['capacity']}"
        + (f" at {kind['max_mhz'] / 1000:.2f} GHz" if kind["max_mhz"] else "")
        for kind in kinds
    )
    return ": ".join(word for word in (profile.get("processor"), shown) if word) or None


def _limits(profile: Json) -> str | None:
    quota, limit = profile.get("cpu_quota_milli"), profile.get("memory_limit_bytes")
    shown = [f"{quota / 1000:.2f} of a processor"] if quota else []
    shown += [f"{size(limit)} of memory"] if limit else []
    return ", ".join(shown) or None


def _moment(profile: Json) -> str | None:
    available, throttled = profile.get("memory_available_bytes"), profile.get("throttle_permille")
    shown = [f"{size(available)} of memory available"] if available else []
    shown += [f"heat takes {throttled / 10:.0f} % of its speed"] if throttled else []
    shown += [f"on {profile['power']}"] if profile.get("power") else []
    return ", ".join(shown) or None


def _measured(profile: Json) -> str | None:
    """Say how fast each type is read: gigabytes a second when decoding."""
    found: Json | None = profile.get("measured")
    if not found:
        return None
    rates = ", ".join(
        f"{one['kind']} {FEMTO / one['decode_fs'] / GIGA:.1f}" for one in found["costs"]
    )
    return (
        f"{found['bandwidth'] / GIGA:.1f} GB/s of memory; decoding with {found['threads']} threads"
        f" of {found['engine']}, in GB/s: {rates}"
    )


def _running(item: Json) -> str | None:
    running: dict[str, Json] = item.get("running") or {}
    shown = ", ".join(
        f"{alias}: {model.get('model')}@{model.get('release')}+{model.get('variant')}"
        for alias, model in running.items()
    )
    return shown or None
