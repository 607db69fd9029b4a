"""The compatibility matrix as a picture: hardware classes down, releases or variants across. Pure.

Reads in black and white: a filled circle is what would be chosen, an empty one fits too, a word is
why it does not. A pointer that rests on a cell is told the whole sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sprat_proto import amounts

from sprat_controller import svg

Json = Mapping[str, Any]

_CELL_HEIGHT: Final = 44
_HEAD: Final = 58
_MARGIN: Final = 16
_RADIUS: Final = 6
_GAP: Final = 10
_SMALL: Final = 10
_SHORT: Final[Mapping[str, str]] = {
    "INSUFFICIENT_MEMORY": "memory",
    "INSUFFICIENT_DISK": "disk",
    "WRONG_HARDWARE": "hardware",
    "RUNTIME_MISSING": "runtime",
    "RUNTIME_NOT_ALLOWED": "runtime",
    "LICENCE_NOT_ALLOWED": "licence",
    "OVER_MEMORY_LIMIT": "memory limit",
    "CONTEXT_TOO_SHORT": "context",
    "QUALITY_TOO_LOW": "quality",
    "QUALITY_UNKNOWN": "not evaluated",
    "TOO_SLOW": "too slow",
    "ANSWERS_TOO_LATE": "too late",
    "RATE_UNKNOWN": "not measured",
}


@dataclass(frozen=True)
class _Mark:
    """What stands in a cell."""

    form: str  # `chosen`, `fits` or `none`
    label: str
    below: str
    tip: str


def draw(matrix: Json) -> str:
    """Return the picture of an answer of `fit/matrix`, as SVG.

    Of one release every variant has a column; of several, each release has one with what would be
    chosen.
    """
    columns, cells = _table(matrix)
    names = [_class_name(one) for one in matrix["classes"]]
    left = _MARGIN + max([svg.text_width(line) for name in names for line in name] or [0]) + _GAP
    widths = [_width(column, cells) for column in columns]
    parts = [*_heads(columns, widths, left)]
    for row, (one, name) in enumerate(zip(matrix["classes"], names, strict=True)):
        top = _HEAD + row * _CELL_HEIGHT
        parts += _row_name(name, top, left)
        x = left
        for column, width in zip(columns, widths, strict=True):
            parts += _cell(cells[one["hardware_class"], column], x, top, width)
            x += width
    height = _HEAD + len(names) * _CELL_HEIGHT
    parts += _legend(height + _GAP)
    whole = round(left + sum(widths) + _MARGIN)
    title = f"What fits where: {len(names)} hardware classes, {len(columns)} columns"
    return svg.document(max(whole, 460), height + 2 * _GAP + 24, title, parts)


def _table(matrix: Json) -> tuple[list[str], dict[tuple[str, str], _Mark]]:
    releases: Sequence[Json] = matrix["releases"]
    if len(releases) == 1:
        return _of_variants(matrix)
    cells = {
        (cell["hardware_class"], f"{cell['model']}@{cell['release']}"): _of_choice(cell)
        for cell in matrix["cells"]
    }
    return [f"{one['model']}@{one['release']}" for one in releases], cells


def _of_variants(matrix: Json) -> tuple[list[str], dict[tuple[str, str], _Mark]]:
    cells: dict[tuple[str, str], _Mark] = {}
    order: list[str] = []
    for cell in matrix["cells"]:
        for verdict in cell["verdicts"]:
            cells[cell["hardware_class"], verdict["variant"]] = _of_verdict(verdict, cell["chosen"])
        order = order or [str(verdict["variant"]) for verdict in cell["verdicts"]]
    return order, cells


def _of_verdict(verdict: Json, chosen: str | None) -> _Mark:
    form = "chosen" if verdict["variant"] == chosen else "fits" if verdict["fits"] else "none"
    if form == "none":
        return _Mark(form, _why(verdict), "", str(verdict["message"]))
    return _Mark(form, "", _rate(verdict), str(verdict["message"]))


def _of_choice(cell: Json) -> _Mark:
    verdicts: Sequence[Json] = cell["verdicts"]
    if cell["chosen"] is None:
        last = verdicts[-1] if verdicts else {"code": None, "message": "no variant"}
        return _Mark("none", _why(last), "", str(last["message"]))
    chosen = next(one for one in verdicts if one["variant"] == cell["chosen"])
    return _Mark("chosen", str(cell["chosen"]), _rate(chosen), str(chosen["message"]))


def _why(verdict: Json) -> str:
    code = str(verdict["code"])
    return _SHORT.get(code, code.replace("_", " ").lower())


def _rate(verdict: Json) -> str:
    rate = verdict["rates"]["decode_tps"]
    return f"{rate:.1f} tokens/s" if rate else ""


def _class_name(one: Json) -> tuple[str, str]:
    processor = str(one["processor"] or one["arch"])[:40]
    count = one["devices"]
    devices = f"{count} device{'' if count == 1 else 's'}"
    simulated = ", simulated" if one["simulated"] else ""
    memory = f"{amounts.most(one['memory_budget_bytes'])} for models"
    return processor, f"{devices}{simulated}, {memory} ({one['hardware_class'][:6]})"


def _width(column: str, cells: Mapping[tuple[str, str], _Mark]) -> float:
    texts = [column]
    for (_, name), mark in cells.items():
        if name == column:
            texts += [f"{mark.label}   ", mark.below]
    return max(svg.text_width(text) for text in texts) + 2 * _GAP


def _heads(columns: Sequence[str], widths: Sequence[float], left: float) -> Iterator[str]:
    x = left
    for column, width in zip(columns, widths, strict=True):
        yield svg.text(x + width / 2, _HEAD - _GAP, column, anchor="middle", bold=True)
        x += width
    yield svg.line(_MARGIN, _HEAD, x, _HEAD)


def _row_name(name: tuple[str, str], top: float, left: float) -> Iterator[str]:
    yield svg.text(_MARGIN, top + 18, name[0], bold=True)
    yield svg.text(_MARGIN, top + 34, name[1], size=_SMALL)
    yield svg.line(_MARGIN, top + _CELL_HEIGHT, left, top + _CELL_HEIGHT, stroke="#bbb")


def _cell(mark: _Mark, x: float, top: float, width: float) -> Iterator[str]:
    fill = {"chosen": "#ddd", "fits": "white", "none": "white"}[mark.form]
    yield svg.rect(x, top, width, _CELL_HEIGHT, fill=fill, stroke="#bbb", tip=mark.tip)
    middle, line = x + width / 2, top + (18 if mark.below else 26)
    if mark.form == "none":
        yield svg.text(middle, line, mark.label, anchor="middle")
    else:
        yield from _circle(mark, middle, line)
    if mark.below:
        yield svg.text(middle, top + 36, mark.below, anchor="middle", size=_SMALL)


def _circle(mark: _Mark, middle: float, line: float) -> Iterator[str]:
    shift = svg.text_width(mark.label) / 2 + _RADIUS if mark.label else 0
    fill = "black" if mark.form == "chosen" else "white"
    yield svg.circle(middle - shift, line - 4, _RADIUS, fill=fill, tip=mark.tip)
    if mark.label:
        yield svg.text(middle + _RADIUS + 2, line, mark.label, anchor="middle")


def _legend(top: float) -> Iterator[str]:
    entries = (("black", "would be chosen"), ("white", "fits, another is better"))
    x: float = _MARGIN + _RADIUS
    for fill, label in entries:
        yield svg.circle(x, top + 12, _RADIUS, fill=fill)
        yield svg.text(x + _GAP, top + 16, label)
        x += svg.text_width(label) + 3 * _GAP
    yield svg.text(x, top + 16, "a word: why not")
