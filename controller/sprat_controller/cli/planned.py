"""What a plan says of each device and variant: for a person, for a pipe, and as a question."""

from __future__ import annotations

from collections import Counter
from typing import Final

from sprat_controller.cli.client import Json
from sprat_controller.cli.output import Row, named, size

DRAWN: Final = ("device", "action", "variant", "why")
COLUMNS: Final = (
    *("device", "action", "chosen", "variant", "code", "message"),
    *("memory", "tokens/s", "basis", "first token ms", "loss %"),
    *("fetch", "expected s", "ends s"),
)

KEPT: Final = ("id", "model", "release", "alias", "made_at", "made_by", "expires_at")
KEPT_LINES: Final = ("device_id", "action", "variant", "code", "current", "hardware_class")


def question(found: Json, release: str) -> str:
    """Return what to ask before a rollout starts."""
    entries: list[Json] = found.get("devices") or []
    actions = Counter(str(entry.get("action")).lower() for entry in entries)
    summary = ", ".join(f"{count} {action}" for action, count in sorted(actions.items()))
    return f"Roll out {release} to {len(entries)} devices ({summary or 'nothing to do'})?"


def drawn(entries: list[Json]) -> list[Row]:
    """Return one line for each device, and below it one for each variant it could have had."""
    rows: list[Row] = []
    for entry in entries:
        device = named(entry.get("device_id"), simulated=entry.get("simulated"))
        rows.append([device, entry.get("action"), entry.get("variant"), _because(entry)])
        verdicts: list[Json] = entry.get("verdicts") or []
        rows += [
            ["", "", f"  {_mark(entry, verdict)} {verdict.get('variant')}", _judged(verdict)]
            for verdict in verdicts
        ]
    return rows


def lines(entries: list[Json]) -> list[Row]:
    """Return one line for each device and variant."""
    return [
        [
            named(entry.get("device_id"), simulated=entry.get("simulated")),
            entry.get("action"),
            entry.get("variant"),
            verdict.get("variant"),
            verdict.get("code"),
            verdict.get("message"),
            *numbers(verdict),
            *_cost(entry, verdict),
        ]
        for entry in entries
        for verdict in entry.get("verdicts") or [_no_verdict(entry)]
    ]


def numbers(verdict: Json) -> Row:
    """Return what the verdict rests on: memory, rate, its basis, first token, loss."""
    need: Json = verdict.get("need") or {}
    rates: Json = verdict.get("rates") or {}
    return [
        need.get("memory"),
        rates.get("decode_tps"),
        rates.get("basis"),
        verdict.get("ttft_ms"),
        verdict.get("loss_percent"),
    ]


def _judged(verdict: Json) -> str:
    """Return a verdict and its numbers as one line."""
    memory, decode, basis, ttft, loss = numbers(verdict)
    said = [f"{size(memory)}" if memory else ""]
    said.append(f"{decode:.1f} tokens/s {basis}" if decode else "")
    said.append(f"first token after {ttft} ms" if ttft is not None else "")
    said.append(f"loses {loss:.2f} %" if loss is not None else "")
    told = ", ".join(one for one in said if one)
    return f"{verdict.get('message')} [{told}]" if told else str(verdict.get("message"))


def _no_verdict(entry: Json) -> Json:
    reason: Json = entry.get("reason") or {}
    return {"code": reason.get("code"), "message": reason.get("message")}


def _cost(entry: Json, verdict: Json) -> Row:
    """Return bytes to fetch and seconds that are expected, beside the chosen variant."""
    if entry.get("variant") != verdict.get("variant"):
        return [None, None, None]
    return [entry.get(name) for name in ("fetch_bytes", "expected_s", "expected_end_s")]


def _because(entry: Json) -> str:
    reason: Json = entry.get("reason") or {}
    hardware = entry.get("hardware_class") or "hardware unknown"
    told = f"{reason['message']} ({hardware})" if reason.get("message") else hardware
    fetched, expected = entry.get("fetch_bytes"), entry.get("expected_s")
    if fetched is None:
        return told
    takes = "in a time that is not known" if expected is None else f"in {expected} s"
    end = entry.get("expected_end_s")
    ends = "" if end is None else f", done {end} s after the start"
    return f"{told}, fetches {size(fetched)} {takes}{ends}"


def _mark(entry: Json, verdict: Json) -> str:
    if verdict.get("variant") == entry.get("variant"):
        return "*"
    return "-" if verdict.get("fits") else "x"
