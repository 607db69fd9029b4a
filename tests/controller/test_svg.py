from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from sprat_controller import svg

NAMESPACE = "{http://www.w3.org/2000/svg}"
TEXTS = st.text(st.characters())  # all of them, those that XML cannot carry too


def parsed(document: str) -> ET.Element:
    return ET.fromstring(document.encode())  # noqa: S314 - our own text


@given(TEXTS, TEXTS)
def test_whatever_is_said_the_picture_can_be_read(title: str, content: str) -> None:
    parts = [svg.text(1, 2, content), svg.rect(0, 0, 1, 1, tip=content or "-")]
    root = parsed(svg.document(10, 10, title, parts))
    assert [child.tag.removeprefix(NAMESPACE) for child in root] == [
        "title",
        "rect",
        "text",
        "rect",
    ]


def test_a_text_is_never_markup() -> None:
    root = parsed(svg.document(10, 10, "a & b", [svg.text(0, 0, '<script>"&')]))
    assert root.find(f"{NAMESPACE}script") is None
    assert root.findtext(f"{NAMESPACE}text") == '<script>"&'
    assert root.get("aria-label") == "a & b"


def test_attributes_cannot_be_left() -> None:
    root = parsed(svg.document(10, 10, '" onload="x', [svg.line(0, 0, 1, 1, stroke='" a="b')]))
    assert root.get("onload") is None
    assert root.findall(f"{NAMESPACE}line")[0].get("a") is None


def test_a_picture_asks_for_nothing_from_elsewhere() -> None:
    parts = [svg.circle(1.234567, 2, 3, tip="here"), svg.line(0, 0, 5, 5, dashes="4 3")]
    document = svg.document(10, 20, "A picture", parts)
    rest = document.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not any(word in rest for word in ("http", "href", "url(", "<style", "<script"))
    assert 'cx="1.23"' in document
    assert "<title>here</title></circle>" in document
    assert 'stroke-dasharray="4 3"' in document


def test_a_turned_text_turns_about_its_own_place() -> None:
    assert 'transform="rotate(-90 5 6)"' in svg.text(5, 6, "up", turned=-90, bold=True)


def test_a_longer_or_larger_text_is_wider() -> None:
    assert svg.text_width("") == 0
    assert svg.text_width("ab") < svg.text_width("abc") < svg.text_width("abc", 20)
    assert svg.line_height(20) > 20
