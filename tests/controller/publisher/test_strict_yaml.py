"""YAML is read strictly: a value of the type that was asked for, or one sentence with its line."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, to_builtins
from sprat_controller.publisher.pipeline import Pipeline
from sprat_controller.publisher.strict_yaml import MAX_BYTES, StrictYamlError, decode


class Tide(StrEnum):
    HIGH = "HIGH"
    LOW = "LOW"


class Bait(Struct, forbid_unknown_fields=True):
    kind: str
    weight: Annotated[int, Meta(ge=1)] = 3


class Catch(Struct, forbid_unknown_fields=True):
    fish: str | None = None
    baits: tuple[Bait, ...] = ()
    places: dict[str, str] = {}
    is_fresh: bool | None = None
    length: float | None = None
    schema: Literal[1] = 1
    boats: dict[str, Bait] = {}
    nets: dict[str, dict[str, str]] = {}
    tide: Tide = Tide.LOW


def refused(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(StrictYamlError) as raised:
        decode(data, Catch, "catch.yaml")
    message = str(raised.value)
    assert message.startswith("catch.yaml")
    assert len(message.splitlines()) == 1
    return message


PLAIN = b"""\
fish: sprat   # a comment
baits:
  - {kind: worm, weight: 5}
  - kind: "no"
places:
  north: >
    a
    b
"""


def test_plain_data_is_read() -> None:
    assert to_builtins(decode(PLAIN, Catch, "catch.yaml")) == {
        "fish": "sprat",
        "baits": ({"kind": "worm", "weight": 5}, {"kind": "no", "weight": 3}),
        "places": {"north": "a b\n"},
        "is_fresh": None,
        "length": None,
        "schema": 1,
        "boats": {},
        "nets": {},
        "tide": "LOW",
    }


@pytest.mark.parametrize(
    "word", ["no", "Yes", "on", "2026-01-01", "12:30:45", "0x1F", "1_000", "<<"]
)
def test_words_are_words(word: str) -> None:
    assert decode(f"fish: {word}".encode(), Catch, "x").fish == word


def test_values_are_those_of_the_core_schema() -> None:
    read = decode(b"is_fresh: true\nlength: -1.5\nfish: ~\n", Catch, "x")
    assert (read.is_fresh, read.length, read.fish) == (True, -1.5, None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", ": expected keys with values, found none"),
        ("# nothing yet", ": expected keys with values, found none"),
        ("- a", ": expected keys with values, found a list"),
        ("just a text", ": expected keys with values, found 'just a text'"),
        ("fsh: sprat", ", line 1: there is no key 'fsh': did you mean 'fish'?"),
        (
            "\nzzz: 1",
            ", line 2: there is no key 'zzz': expected one of fish, baits, places,",
        ),
        ("baits:\n- kind: a\n  knid: b", ", line 3: there is no key 'knid' in baits[0]: did you"),
        ("fish: a\nfish: b", ", line 2: expected each key once, found 'fish'"),
        ("places: {a: b, a: c}", ", line 1: expected each key once, found 'a'"),
        ("? [a]\n: b", ", line 1: expected a word as key"),
        ("fish: 1.5", ", line 1: fish: expected text, found a number"),
        ("fish: 3", ", line 1: fish: expected text, found a whole number"),
        ("is_fresh: yes", ", line 1: is_fresh: expected true or false, found text"),
        ("baits:\n- kind: a\n  weight: 0", ", line 3: baits[0].weight: expected a whole number >="),
        ("baits:\n- weight: 1", ", line 2: baits[0]: expected the key 'kind', found none"),
        ("baits: 3", ", line 1: baits: expected a list, found a whole number"),
        ("fish: &a b", ", line 1: expected no anchors and aliases (& and *)"),
        ("fish: *a", ", line 1: expected no anchors and aliases (& and *)"),
        ("fish: !!python/name:os.system x", ", line 1: expected no tags (!)"),
        ("fish: !!str x", ", line 1: expected no tags (!)"),
        ("fish: a\n---\nfish: b", ", line 2: expected one document, found another"),
        ("fish: " + "[" * 9, ", line 1: expected at most 8 levels"),
        ("fish: " + "[" * 60_000, ", line 1: expected at most 8 levels"),
        ("fish: [", ", line 1: "),
        ("fish: a: b", ", line 1: mapping values are not allowed here"),
        ("\tfish: a", ", line 1: expected spaces before and between words, found a tab"),
        ("places:\n\tnorth: a", ", line 2: expected spaces before and between words, found"),
        ("schema: 2", ", line 1: schema: expected 1, found 2"),
        ("places: {n.e: a, s: [b]}", ", line 1: places.s: expected text, found a list"),
        (
            "places: {n: a}\nboats:\n  a: {kind: b}\n  b.c: {kind: 3}",
            ", line 4: boats.b.c.kind: ",
        ),
        (
            "boats: {a: {kind: b, weight: 0}}",
            ", line 1: boats.a.weight: expected a whole number >= 1, found 0",
        ),
        (
            'boats: {"a\\n\\u2028": {knid: 1}}',
            ", line 1: there is no key 'knid' in boats.a\\n\\u2028",
        ),
        ("nets: {a: {b: c, d: 1}}", ", line 1: nets.a.d: expected text, found a whole number"),
        ("tide: HIGHEST", ", line 1: tide: expected HIGH or LOW, found 'HIGHEST'"),
        ('fish: "\\ud800"', ", line 1: expected text, found the character '\\ud800'"),
        ('fish: "a\\0"', ", line 1: expected text, found the character '\\x00'"),
        ("fish: \x07", ": it is no YAML: unacceptable character"),
        (b"fish: \xff", ": expected UTF-8, found another byte at 6"),
        (b"#" * (MAX_BYTES + 1), f": expected at most {MAX_BYTES} bytes, found more"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_with_its_line(text: str | bytes, why: str) -> None:
    assert refused(text).startswith(f"catch.yaml{why}")


def test_a_few_lines_that_would_unfold_to_gigabytes_are_refused() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(9)
    ]
    assert "expected no anchors" in refused("\n".join(lines))


def assert_read_or_told(data: bytes) -> None:
    told = "pipeline p.yaml"
    try:
        decode(data, Pipeline, told)
    except StrictYamlError as error:
        told = str(error)
    assert told.startswith("pipeline p.yaml")
    assert len(told.splitlines()) == 1


@given(st.text(max_size=400) | st.text("[]{}:,-\n &*!'\"#|>~?ab12", max_size=200))
def test_whatever_is_typed_is_a_pipeline_or_one_sentence(text: str) -> None:
    assert_read_or_told(text.encode("utf-8", "surrogatepass"))


_KEYS = st.sampled_from(["source", "model", "golden", "evaluation", "soak_s", "adapters", "odd"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_whatever_is_structured_is_a_pipeline_or_one_sentence(content: dict[str, object]) -> None:
    assert_read_or_told(json.dumps(content).encode())
