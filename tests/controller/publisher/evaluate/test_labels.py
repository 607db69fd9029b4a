from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.publisher.evaluate.labels import GAP, Box, Point, place

FRAME = Box(80, 50, 760, 400)
RADIUS = 5
POINTS = st.lists(st.tuples(st.floats(85, 735), st.floats(60, 390)), max_size=12)
SIZE = (150.0, 15.0)


def boxes(points: list[Point]) -> list[Box]:
    return place(points, [SIZE] * len(points), FRAME, RADIUS)


@given(POINTS)
def test_labels_never_lie_over_each_other_or_over_points(points: list[Point]) -> None:
    placed = boxes(points)
    assert len(placed) == len(points)
    assert not any(one.meets(other) for one, other in combinations(placed, 2))
    assert not any(box.meets(Box(x, y, x, y).wider(RADIUS)) for box in placed for x, y in points)


@given(POINTS)
def test_labels_stay_in_the_frame(points: list[Point]) -> None:
    assert all(FRAME.holds(box) for box in boxes(points))


def test_a_label_is_to_the_right_of_a_lonely_point() -> None:
    (box,) = boxes([(200, 200)])
    assert box.left == 200 + GAP
    assert box.top < 200 < box.bottom


def test_at_the_right_edge_it_is_to_the_left() -> None:
    (box,) = boxes([(735, 200)])
    assert box.right == 735 - GAP


def test_points_at_one_place_have_their_labels_around_it() -> None:
    placed = boxes([(300, 200)] * 7)
    assert all(abs(box.top - 200) < 60 for box in placed)


def test_where_there_is_no_room_there_is_still_a_place() -> None:
    assert len(boxes([(300, 200)] * 90)) == 90
