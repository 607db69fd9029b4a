"""What was measured of a model's variants, as JSON, as Markdown and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from sprat_controller.publisher.evaluate.evaluate import Scores
from sprat_controller.publisher.evaluate.picture import draw
from sprat_controller.publisher.evaluate.table import COLUMNS, row, to_json


@dataclass(frozen=True)
class Findings:
    """The variants of one release, compared with their original.

    Attributes:
        model: Its name.
        release: Its version.
        reference: The form of the original.
        text_sha256: Of what was predicted.
        machine: Where rates were measured, as people say it.
        scores: Of all variants.
        dropped: The names of those that were left out, being worse than allowed.
    """

    model: str
    release: str
    reference: str
    text_sha256: str
    machine: str
    scores: Sequence[Scores]
    dropped: Sequence[str] = ()

    @property
    def title(self) -> str:
        """What the figures are of."""
        return f"{self.model}@{self.release}"


def to_document(found: Findings) -> dict[str, Any]:
    """Return all figures as JSON values; shares and losses are from 0 to 1, sizes in bytes."""
    return {
        "model": found.model,
        "release": found.release,
        "reference": found.reference,
        "text_sha256": found.text_sha256,
        "machine": found.machine,
        "variants": to_json(found.scores),
        "dropped": list(found.dropped),
    }


def to_text(found: Findings) -> list[str]:
    """Return the figures as lines in columns."""
    rows = [list(COLUMNS), *(row(one) for one in found.scores)]
    widths = [max(len(one[column]) for one in rows) for column in range(len(COLUMNS))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(one, widths, strict=True))
        )
        for one in rows
    ]


def to_markdown(found: Findings) -> str:
    """Return the figures as a page with one table."""
    compared = f"Compared with {found.reference} on the text {found.text_sha256[:12]}"
    has_rates = any(one.decode_tps for one in found.scores)
    lines = [
        f"# {found.title}: what its variants lost",
        "",
        f"{compared}; rates on {found.machine}." if has_rates else f"{compared}.",
        "",
        _line(COLUMNS),
        _line(["---", *("---:" for _ in COLUMNS[1:])]),
        *(_line(row(one)) for one in found.scores),
    ]
    if found.dropped:
        lines += ["", f"Not published: {', '.join(found.dropped)}."]
    return "\n".join([*lines, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _to_json_text(found: Findings) -> str:
    return msgspec.json.format(msgspec.json.encode(to_document(found)), indent=2).decode() + "\n"


def _to_picture(found: Findings) -> str:
    return draw(found.title, found.scores)


# A file's ending: what is written into it.
FORMS: Final[Mapping[str, Callable[[Findings], str]]] = {
    ".json": _to_json_text,
    ".md": to_markdown,
    ".svg": _to_picture,
}


def write(found: Findings, path: Path) -> None:
    """Write what the file's ending asks for, in place of what was there.

    Raises:
        OSError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(FORMS[path.suffix](found))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
