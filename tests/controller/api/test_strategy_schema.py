from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from sprat_controller.api import strategy_schema as schema
from sprat_controller.rollout import strategy, strategy_said
from sprat_controller.rollout.strategy import LADDER, Strategy

PAIRS = [
    (kind, getattr(schema, kind.__name__))
    for kind in (
        strategy.Gate,
        strategy.Group,
        strategy.AbortCriterion,
        strategy.Pace,
        strategy.DisruptionBudget,
        strategy.Deadlines,
        strategy.Retries,
        strategy.WindowSpec,
        strategy.Strategy,
    )
]
LIMITS = {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "enum"}


def limits(document: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    """Return the ranges of a field of a JSON schema, whatever refers to what."""
    found = {key: value for key, value in field.items() if key in LIMITS}
    for inner in [*field.get("anyOf", ()), *field.get("allOf", ())]:
        found |= limits(document, inner)
    name = field.get("$ref", "").rpartition("/")[2]
    if name and "enum" in document["$defs"][name]:
        found["enum"] = sorted(document["$defs"][name]["enum"])
    return found


@pytest.mark.parametrize(("value", "shape"), PAIRS)
def test_each_shape_has_the_words_and_ranges_of_its_value(
    value: type[msgspec.Struct], shape: type[BaseModel]
) -> None:
    theirs = shape.model_json_schema()
    ours = msgspec.json.schema(value)
    own = ours["$defs"][value.__name__]
    assert list(theirs["properties"]) == list(own["properties"])
    for name, field in own["properties"].items():
        assert limits(theirs, theirs["properties"][name]) == limits(ours, field), name


@pytest.mark.parametrize("value", [value for value, _ in PAIRS if value.__name__ != "WindowSpec"])
def test_defaults_are_the_same_on_both_sides(value: type[msgspec.Struct]) -> None:
    shape: type[BaseModel] = getattr(schema, value.__name__)
    assert msgspec.convert(shape().model_dump(mode="json"), value) == value()


@pytest.mark.parametrize("whole", [Strategy(), LADDER])
def test_what_is_said_reads_back_as_it_was(whole: Strategy) -> None:
    said = strategy_said.said(whole)
    shape = schema.Strategy.model_validate(said)
    assert strategy_said.asked(schema.body_of(shape)) == whole


@given(st.sampled_from(("groups", "pace", "retries", "abort")), st.integers() | st.text())
def test_a_word_of_another_kind_is_refused_by_the_shape(name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        schema.Strategy.model_validate({name: value})
