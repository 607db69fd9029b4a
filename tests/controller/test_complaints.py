from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from msgspec import Meta, Struct
from sprat_controller import complaints


class Fish(Struct, forbid_unknown_fields=True):
    name: str
    weights: list[Annotated[int, Meta(ge=1)]] = []


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        ({"name": 1}, "$.name", "expected text, found a whole number"),
        ({"name": "a", "weights": [1, 0]}, "$.weights[1]", "expected a whole number >= 1, found 0"),
        ({}, "$", "expected the key 'name', found none"),
        ({"name": "a", "fins": 2}, "$", "there is no key 'fins'"),
        (3, "$", "expected keys with values, found a whole number"),
    ],
)
def test_a_complaint_says_where_what_was_expected_and_what_was_found(
    value: object, path: str, said: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(value, Fish)
    assert complaints.with_found(str(refused.value), value) == (path, said)


def test_what_was_found_is_shown_in_short() -> None:
    value = {"name": "a", "weights": [-(10**17)]}
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(value, Fish)
    _, said = complaints.with_found(str(refused.value), value)
    assert said.endswith("found -100000000000000000")
    _, said = complaints.with_found(
        "Expected `str` of length <= 3 - at `$.name`", {"name": "a" * 99}
    )
    assert said.endswith("...")
    assert len(said) < 120
