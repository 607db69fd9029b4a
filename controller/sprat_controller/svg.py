"""The few shapes that the server's pictures are made of, as SVG text.

Pictures stand alone: no script, no style sheet, no font or file from elsewhere, and everything said
is text. Coordinates are pixels from the upper left corner. What is drawn must read in black and
white: tell things apart by form and label, and use `fill` for weight only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal
from xml.sax.saxutils import escape, quoteattr

FONT_SIZE: Final = 12  # px
# Of the fonts that `sans-serif` stands for, the wide ones need about so much of the size a letter.
_LETTER_WIDTH: Final = 0.62
_LINE_HEIGHT: Final = 1.2

# Not XML's, even when written as a number.
_NO_CHARACTERS: Final = {code: "\ufffd" for code in range(32) if chr(code) not in "\t\n\r"} | {
    0xFFFE: "\ufffd",
    0xFFFF: "\ufffd",
}


def document(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """Return a whole picture of parts on white; a screen reader says `title`."""
    said = _clean(title)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img" aria-label={quoteattr(said)}'
        f' font-family="sans-serif" font-size="{FONT_SIZE}">'
    )
    paper = rect(0, 0, width, height, fill="white", stroke="none")
    return "\n".join([opening, f"<title>{escape(said)}</title>", paper, *parts, "</svg>\n"])


def text(
    x: float,
    y: float,
    content: str,
    *,
    anchor: Literal["start", "middle", "end"] = "start",
    size: int = FONT_SIZE,
    bold: bool = False,
    turned: float = 0,
    fill: str = "black",
) -> str:
    """Return one line of text whose base line is at `y`, `turned` clockwise by degrees."""
    weight = ' font-weight="bold"' if bold else ""
    turn = f' transform="rotate({_number(turned)} {_number(x)} {_number(y)})"' if turned else ""
    return (
        f'<text x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}" font-size="{size}"'
        f"{weight}{turn} fill={quoteattr(fill)}>{escape(_clean(content))}</text>"
    )


def line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    *,
    stroke: str = "black",
    width: float = 1,
    dashes: str = "",
) -> str:
    """Return a line; `dashes` are lengths of ink and of gaps, for example `4 3`."""
    dashed = f" stroke-dasharray={quoteattr(dashes)}" if dashes else ""
    return (
        f'<line x1="{_number(x1)}" y1="{_number(y1)}" x2="{_number(x2)}" y2="{_number(y2)}"'
        f' stroke={quoteattr(stroke)} stroke-width="{_number(width)}"{dashed}/>'
    )


def rect(
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    fill: str = "none",
    stroke: str = "black",
    tip: str = "",
) -> str:
    """Return a rectangle; `tip` is shown when a pointer rests on it."""
    return _shape(
        f'rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}"'
        f' height="{_number(height)}" fill={quoteattr(fill)} stroke={quoteattr(stroke)}',
        tip,
    )


def circle(
    x: float,
    y: float,
    radius: float,
    *,
    fill: str = "black",
    stroke: str = "black",
    tip: str = "",
) -> str:
    """Return a circle; `tip` as for `rect`."""
    return _shape(
        f'circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}"'
        f" fill={quoteattr(fill)} stroke={quoteattr(stroke)}",
        tip,
    )


def text_width(content: str, size: int = FONT_SIZE) -> float:
    """Return how wide a text may be at most, in pixels: fonts differ."""
    return len(content) * size * _LETTER_WIDTH


def line_height(size: int = FONT_SIZE) -> float:
    """Return how far lines of text are apart, in pixels."""
    return size * _LINE_HEIGHT


def _shape(opening: str, tip: str) -> str:
    if not tip:
        return f"<{opening}/>"
    name = opening.split(maxsplit=1)[0]
    return f"<{opening}><title>{escape(_clean(tip))}</title></{name}>"


def _clean(content: str) -> str:
    """Return a text without characters that XML cannot carry."""
    carried = content.translate(_NO_CHARACTERS)
    return carried.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
