"""JSON schemas whose every answer is short."""

from __future__ import annotations

from typing import Any, TypeAlias

from hypothesis import strategies as st

Schema: TypeAlias = dict[str, Any]

_NAMES = st.sampled_from(["a", "b c", 'd"e', "é", "name", "arguments"])


def schemas() -> st.SearchStrategy[Schema]:
    """Objects, arrays, bounded integers and strings, enums, nested, some by reference."""
    return st.builds(_with_definition, _nested(), objects())


def objects() -> st.SearchStrategy[Schema]:
    """Objects only, as a tool's parameters are; the definition they refer to is their own."""
    return st.builds(_with_definition, _object(_nested()), _object(_leaves()))


def _with_definition(schema: Schema, other: Schema) -> Schema:
    plain = {key: value for key, value in other.items() if key != "$defs"}
    return {**schema, "$defs": {"other": _without_references(plain)}}


def _without_references(schema: Any) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return {"const": None}
        return {key: _without_references(value) for key, value in schema.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
    return schema


def _nested() -> st.SearchStrategy[Schema]:
    return st.recursive(
        _leaves() | st.just({"$ref": "#/$defs/other"}),
        lambda inner: _object(inner) | _array(inner),
        max_leaves=5,
    )


def _leaves() -> st.SearchStrategy[Schema]:
    return st.one_of(
        st.sampled_from([{"type": "boolean"}, {"type": "null"}]),
        st.lists(
            st.none() | st.integers(-9, 99) | st.text('aé"\\\n', max_size=3), min_size=1, max_size=4
        ).map(lambda values: {"enum": values}),
        st.tuples(st.integers(-1200, 1200), st.integers(0, 900)).map(
            lambda two: {"type": "integer", "minimum": two[0], "maximum": sum(two)}
        ),
        st.tuples(st.integers(0, 3), st.integers(0, 5)).map(
            lambda two: {"type": "string", "minLength": two[0], "maxLength": sum(two)}
        ),
    )


def _array(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.tuples(inner, st.integers(0, 2), st.integers(0, 2)).map(
        lambda three: {
            "type": "array",
            "items": three[0],
            "minItems": three[1],
            "maxItems": three[1] + three[2],
        }
    )


def _object(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.dictionaries(_NAMES, inner, max_size=4).flatmap(
        lambda properties: st.sets(st.sampled_from(sorted(properties) or ["none"])).map(
            lambda required: {
                "type": "object",
                "properties": properties,
                "required": sorted(required & properties.keys()),
                "additionalProperties": False,
            }
        )
    )
