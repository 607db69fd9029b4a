"""What a candidate is held to: the judgement, the checks of answers, and their spelling."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto import canonical, probes
from sprat_proto.capability import PROBES
from sprat_proto.manifest import Activation, GoldenPrompt
from sprat_proto.probes import (
    Before,
    Bounds,
    ProbeResult,
    ProbesError,
    Proof,
    ScoredText,
    SoakBounds,
    Traffic,
    breach_of_bounds,
    breach_of_soak,
    breach_of_text,
    check_schema,
    chunks_of,
    matches,
)

# As a manifest of schema 3 spelled it before there were proofs.
BEFORE_PROOFS = (
    b'{"probe":[{"expect":"b","match":"contains","max_tokens":32,"prompt":"a"}],'
    b'"probe_timeout_s":300,"rollback":"automatic","soak_s":0,"soak_traffic_percent":0}'
)
GOOD = ProbeResult(
    score_permille=1000, decode_milli_tps=50_000, ttft_ms=100, peak_bytes=1000, took_ms=5
)
KNOWN = Before(declared_bytes=1000, decode_milli_tps=60_000)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "legs"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5},
        "legs": {"type": "integer", "minimum": 0, "maximum": 8},
        "kind": {"enum": ["cat", "fish", 1]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
    },
}


def test_an_activation_from_before_proofs_is_spelled_as_ever() -> None:
    assert canonical.encode(Activation(probe=[GoldenPrompt("a", "b")])) == BEFORE_PROOFS
    read = canonical.decode(BEFORE_PROOFS, Activation, "activation")
    assert (read.terms, read.probe[0].counts) == (Proof(), 1)


def test_a_proof_is_read_as_it_was_written() -> None:
    proof = Proof(600, ScoredText("text", 5000), Bounds(1, 2, 3, 4), SoakBounds(5, 6, 7))
    written = Activation(probe=[GoldenPrompt("a", "{}", "schema", weight=3)], proof=proof)
    assert canonical.decode(canonical.encode(written), Activation, "activation") == written


@pytest.mark.parametrize(
    ("activation", "needs"),
    [
        (Activation(probe=[GoldenPrompt("a", "b", "equals")], soak_s=9), 0),
        (Activation(proof=Proof()), PROBES),
        (Activation(probe=[GoldenPrompt("a", "b", weight=1)]), PROBES),
        (Activation(probe=[GoldenPrompt("a", "b"), GoldenPrompt("a", "{}", "schema")]), PROBES),
    ],
)
def test_what_older_agents_cannot_read_says_so(activation: Activation, needs: int) -> None:
    assert activation.needs == needs


@pytest.mark.parametrize(
    ("bounds", "result", "expected", "found"),
    [
        (Bounds(), ProbeResult(), None, None),
        (Bounds(min_decode_milli_tps=50_000), GOOD, None, None),
        (Bounds(min_decode_milli_tps=50_001), GOOD, "50.001 tokens", "50.000 tokens"),
        (Bounds(min_decode_permille=800), GOOD, None, None),
        (Bounds(min_decode_permille=900), GOOD, "54.000 tokens", "50.000 tokens"),
        (Bounds(min_decode_permille=900), ProbeResult(), "54.000 tokens", "which tell no rate"),
        (Bounds(max_ttft_ms=100), GOOD, None, None),
        (Bounds(max_ttft_ms=99), GOOD, "99 ms", "100 ms"),
        (Bounds(max_memory_permille=1000), GOOD, None, None),
        (Bounds(max_memory_permille=999), GOOD, "999 bytes", "1000 bytes"),
        (Bounds(max_memory_permille=999), ProbeResult(), "999 bytes", "no figure"),
    ],
)
def test_a_bound_that_is_not_kept_says_what_was_expected_and_found(
    bounds: Bounds, result: ProbeResult, expected: str | None, found: str | None
) -> None:
    breach = breach_of_bounds(bounds, result, KNOWN)
    if expected is None or found is None:
        assert breach is None
        return
    assert breach is not None
    assert expected in breach.expected
    assert found in breach.found
    assert breach.expected in breach.message
    assert breach.found in breach.message


def test_a_device_that_never_measured_what_it_runs_is_held_to_no_share_of_it() -> None:
    assert breach_of_bounds(Bounds(min_decode_permille=900), GOOD, Before(1)) is None


def test_a_text_may_surprise_as_much_as_was_signed_and_the_tolerance_more() -> None:
    text = ScoredText("text", 4000)
    assert breach_of_text(text, ProbeResult(perplexity_milli=4020)) is None
    breach = breach_of_text(text, ProbeResult(perplexity_milli=4021))
    assert breach is not None
    assert (breach.expected, breach.found) == ("4.020", "4.021")


@pytest.mark.parametrize(
    ("bounds", "traffic", "found"),
    [
        (SoakBounds(), Traffic(1000, 1000, 1000, 1, 1_000_000), None),
        (SoakBounds(10, 100), Traffic(9, 9), None),
        (SoakBounds(10, 100), Traffic(10, 1), None),
        (SoakBounds(10, 100), Traffic(10, 2), "200 (2 of 10)"),
        (SoakBounds(500, 100), Traffic(500, 51), "102 (51 of 500)"),  # far more than 64 are kept
        (SoakBounds(10, 1), Traffic(1999, 2), "1 (2 of 1999)"),
        (SoakBounds(10, 0), Traffic(2000, 1), "0 (1 of 2000)"),
        (SoakBounds(10, None, 900), Traffic(10, 0, 10, 540, 10_000_000), None),
        (SoakBounds(10, None, 900), Traffic(10, 0, 10, 539, 10_000_000), "53.900 tokens"),
        (SoakBounds(500, None, 900), Traffic(500, 0, 500, 9, 1_000_000), "9.000 tokens"),
        # Requests that tell no decode rate do not make it enough.
        (SoakBounds(10, None, 900), Traffic(1000, 0, 9, 1, 10_000_000), None),
        (SoakBounds(10, None, 900), Traffic(10, 0, 0), None),
    ],
)
def test_real_requests_judge_once_there_are_enough(
    bounds: SoakBounds, traffic: Traffic, found: str | None
) -> None:
    breach = breach_of_soak(bounds, traffic, KNOWN)
    assert (breach is None) == (found is None)
    if breach and found:
        assert found in breach.found


def test_parts_of_a_soak_add_up() -> None:
    part = Traffic(5, 1, 3, 90, 3_000_000)
    assert part.plus(part) == Traffic(10, 2, 6, 180, 6_000_000)
    assert part.plus(part).decode_milli_tps == part.decode_milli_tps == 30_000
    assert Traffic(5, 1).decode_milli_tps == 0


@given(st.integers(1, 100_000), st.integers(probes.LEAST_CHUNK, 512), st.integers(1, 4096))
def test_no_more_is_scored_than_was_asked_for_but_for_one_chunk(
    count: int, chunk: int, limit: int
) -> None:
    chunks = chunks_of(count, chunk, limit)
    per_chunk = chunk - 1 - chunk // 2
    assert chunks == 1 or (chunks * per_chunk <= limit and chunks * chunk <= count)


@pytest.mark.parametrize(
    "answer",
    [
        '{"name":"Tom","legs":4}',
        ' {"name":"Tom","legs":4.0,"kind":"cat","tags":["a","b"]}\n',
    ],
)
def test_json_by_the_schema_passes(answer: str) -> None:
    check_schema(json.dumps(SCHEMA))
    assert matches(answer, "schema", json.dumps(SCHEMA))


@pytest.mark.parametrize(
    "answer",
    [
        "Tom has four legs",
        "[" * 100_000,
        '{"name":"Tom"}',
        '{"name":"","legs":4}',
        '{"name":"Tom","legs":true}',
        '{"name":"Tom","legs":4.5}',
        '{"name":"Tom","legs":9}',
        '{"name":"Tom","legs":4,"kind":"dog"}',
        '{"name":"Tom","legs":4,"kind":true}',
        '{"name":"Tom","legs":4,"tags":["a","b","c"]}',
        '{"name":"Tom","legs":4,"age":3}',
    ],
)
def test_other_answers_do_not(answer: str) -> None:
    assert not matches(answer, "schema", json.dumps(SCHEMA))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
NO_KEY: dict[str, st.SearchStrategy[Any]] = {}  # that there must be
schemas: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.fixed_dictionaries(
        NO_KEY,
        optional={
            "type": st.sampled_from(
                ["object", "array", "string", "integer", "number", "boolean", "null"]
            ),
            "enum": st.lists(values, min_size=1, max_size=3),
            "const": values,
            "minimum": st.integers(-3, 3),
            "maximum": st.floats(-3, 3),
            "minLength": st.integers(0, 3),
            "maxItems": st.integers(0, 3),
            "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        NO_KEY,
        optional={
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "items": inner,
            "additionalProperties": st.booleans(),
        },
    ),
    max_leaves=4,
)


@given(schemas, values)
def test_schemas_mean_what_the_standard_says(schema: dict[str, Any], value: Any) -> None:
    check_schema(json.dumps(schema))
    standard = jsonschema.Draft202012Validator(schema).is_valid(value)  # pyright: ignore[reportUnknownMemberType]
    assert matches(json.dumps(value), "schema", json.dumps(schema)) == standard


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ("no JSON", "found other text"),
        ("[1]", "expected an object"),
        ('{"pattern":"(a+)+$"}', "does not know 'pattern'"),
        ('{"properties":{"a":{"$ref":"#"}}}', "schema.a: a device does not know '\\$ref'"),
        ('{"type":["string","null"]}', "another value of 'type'"),
        ('{"type":"text"}', "expected a type of object"),
        ('{"minLength":true}', "another value of 'minLength'"),
        ('{"required":[1]}', "expected names"),
        ('{"items":' * 17 + "{}" + "}" * 17, "at most 16 deep"),
    ],
)
def test_a_schema_that_is_not_known_wholly_is_refused(schema: str, complaint: str) -> None:
    with pytest.raises(ProbesError, match=complaint):
        check_schema(schema)
