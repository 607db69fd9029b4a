from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller import svg
from sprat_controller.publisher.evaluate.evaluate import Scores
from sprat_controller.publisher.evaluate.picture import (
    HEIGHT,
    PLOT,
    TITLE_SIZE,
    WIDTH,
    axes_of,
    draw,
)

SVG = "{http://www.w3.org/2000/svg}"


def scores(variant: str, size: int, loss: float) -> Scores:
    return Scores(variant, size, 2040, 20.0, math.log1p(loss), 0.9, 100, 20)


KNOWN = [
    scores("f16", 1_195_218_336, 0),
    scores("q8_0", 636_483_008, 0.0012),
    scores("q5_1", 461_177_280, 0.011),
    scores("q4_0", 378_601_920, 0.051),
]
ANY = st.builds(scores, st.just("q4_k_m"), st.integers(1 << 10, 1 << 38), st.floats(0, 1e9))


def parsed(model: str, found: list[Scores]) -> ET.Element:
    return ET.fromstring(draw(model, found))  # noqa: S314 - our own text


def texts(root: ET.Element) -> list[str]:
    return [str(one.text) for one in root.iter(f"{SVG}text")]


def test_each_variant_has_a_point_and_its_figures() -> None:
    root = parsed("qwen3-0.6b", KNOWN)
    assert len(root.findall(f"{SVG}circle")) == len(KNOWN)
    said = texts(root)
    assert "q4_0: 361 MiB, 5.1 %" in said
    assert "f16: 1140 MiB, 0" in said
    assert "qwen3-0.6b: size and quality of its variants" in said
    assert "2,040 tokens scored; a hollow point loses nothing" in said


def test_axes_have_units_and_ticks() -> None:
    said = texts(parsed("m", KNOWN))
    assert any("(MiB)" in text for text in said)
    assert any("(%)" in text for text in said)
    assert {"0", "200", "400", "1200", "0.1", "1", "10"} <= set(said)


def test_a_larger_one_is_further_right_and_a_worse_one_higher() -> None:
    points = parsed("m", KNOWN).findall(f"{SVG}circle")
    across = [float(point.get("cx", "")) for point in points]
    down = [float(point.get("cy", "")) for point in points]
    assert across == sorted(across, reverse=True)
    assert down == sorted(down, reverse=True)


def test_what_loses_nothing_is_hollow() -> None:
    fills = [point.get("fill") for point in parsed("m", KNOWN).findall(f"{SVG}circle")]
    assert fills == ["white", "black", "black", "black"]


def test_the_longest_name_of_a_model_fits() -> None:
    title = next(parsed("m" * 64, KNOWN).iter(f"{SVG}text"))
    size = int(title.get("font-size", ""))
    assert 8 < size < TITLE_SIZE
    assert PLOT.left + svg.text_width(str(title.text), size) <= WIDTH


@given(st.lists(ANY, min_size=1, max_size=9))
def test_all_points_lie_in_the_plot(found: list[Scores]) -> None:
    axes = axes_of(found)
    for one in found:
        assert PLOT.left <= axes.x(one.bytes / 2**20) <= PLOT.right
        assert PLOT.top <= axes.y(one.loss) <= PLOT.bottom


@given(st.text(), st.lists(ANY, min_size=1, max_size=9))
def test_any_variants_can_be_drawn(model: str, found: list[Scores]) -> None:
    root = parsed(model, found)
    assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    assert len(texts(root)) < 60


@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_one_variant_alone_can_be_drawn(loss: float) -> None:
    assert len(parsed("m", [scores("q4_0", 1000, loss)]).findall(f"{SVG}circle")) == 1
