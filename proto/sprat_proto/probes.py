"""How a device proves a candidate: what is signed, what is measured, what is held against it. Pure.

The golden prompts are the manifest's (`manifest.GoldenPrompt`); `Proof` says what else the
candidate is held to. All figures are whole numbers, since the proof is signed and the result stands
in the audit record. Regular expressions are none of the checks: no engine here bounds their time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

import msgspec
from msgspec import Meta, Struct

CHUNK: Final = 512  # tokens of the text at a time, or fewer for a model trained for fewer
LEAST_CHUNK: Final = 64  # of a model with so short a context little can be said
MAX_SCORED: Final = 4096  # tokens
DEFAULT_SCORED: Final = 510  # two chunks
MAX_PERPLEXITY_MILLI: Final = 1 << 40
LEAST_DECODED: Final = 16  # tokens after the first of each answer, for a rate
# Besides the publisher's own margin. Another processor, another split of a chunk into batches, and
# keys and values in Q8_0 change a perplexity by less.
TOLERANCE_PERMILLE: Final = 5
MAX_SAID: Final = 200  # characters of a prompt, of what was expected and of what was found
MOST_FAILED: Final = 8  # checks that are told
MAX_DEPTH: Final = 16  # of a schema, and of an answer that is held to one

Match: TypeAlias = Literal["contains", "equals", "schema"]
Json: TypeAlias = dict[str, Any] | list[Any] | str | float | bool | None

_Permille = Annotated[int, Meta(ge=0, le=100_000)]
_Figure = Annotated[int, Meta(ge=0, le=1 << 48)]


class ProbesError(ValueError):
    """What was to be signed says no proof that a device can carry out; one sentence."""


class ScoredText(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A text that must not surprise the candidate more than its publisher's own evaluation said.

    Scored as `publisher/evaluate` does: chunks of `CHUNK` tokens, each from an empty context, of
    each the second half.
    """

    text: Annotated[str, Meta(min_length=1, max_length=65536)]
    max_perplexity_milli: Annotated[int, Meta(ge=1000, le=MAX_PERPLEXITY_MILLI)]
    # Scored at most, in whole chunks; one chunk is always scored.
    tokens: Annotated[int, Meta(ge=1, le=MAX_SCORED)] = DEFAULT_SCORED

    @property
    def bound_milli(self) -> int:
        """The highest perplexity that passes, in thousandths: with the tolerance."""
        return self.max_perplexity_milli * (1000 + TOLERANCE_PERMILLE) // 1000


class Bounds(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the candidate must keep to while it is probed; 0 asks nothing."""

    min_decode_milli_tps: _Figure = 0
    # Thousandths of the rate at which the alias's model answers on this device; asks nothing of a
    # device that did not measure that yet.
    min_decode_permille: _Permille = 0
    # The slowest golden prompt's.
    max_ttft_ms: _Figure = 0
    # Thousandths of the memory that fit declares for it.
    max_memory_permille: _Permille = 0


class SoakBounds(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What real requests must show during the soak; None asks nothing."""

    # Below so many requests nothing is judged, and no rate below so many answers that tell one: a
    # quiet device still passes.
    min_requests: Annotated[int, Meta(ge=1, le=1 << 32)] = 10
    max_error_permille: Annotated[int, Meta(ge=0, le=1000)] | None = None
    # Thousandths of the rate of the alias's model on this device before.
    min_decode_permille: _Permille | None = None


class Proof(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a candidate is held to besides that it answers its golden prompts."""

    # Thousandths of the golden prompts' weight that must be answered as expected.
    min_score_permille: Annotated[int, Meta(ge=0, le=1000)] = 1000
    text: ScoredText | None = None
    bounds: Bounds = Bounds()
    soak: SoakBounds = SoakBounds()


NOTHING_MORE: Final = Proof()


class FailedCheck(Struct, frozen=True, forbid_unknown_fields=True):
    """A golden prompt that was not answered as expected, or a bound that was not kept."""

    check: Annotated[str, Meta(max_length=MAX_SAID)]  # the prompt, or what is bounded
    expected: Annotated[str, Meta(max_length=MAX_SAID)]
    found: Annotated[str, Meta(max_length=MAX_SAID)]


class ProbeResult(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was measured; 0: it was not."""

    score_permille: _Figure = 0
    prompts: _Figure = 0  # asked
    passed: _Figure = 0
    perplexity_milli: _Figure = 0
    scored_tokens: _Figure = 0
    decode_milli_tps: _Figure = 0
    ttft_ms: _Figure = 0  # of the slowest golden prompt
    peak_bytes: _Figure = 0  # resident memory of the worker
    took_ms: _Figure = 0
    # The first ones, also of a probe that passed as a whole.
    failed: Annotated[tuple[FailedCheck, ...], Meta(max_length=MOST_FAILED)] = ()


@dataclass(frozen=True)
class Before:
    """What the figures are compared with."""

    declared_bytes: int
    decode_milli_tps: int = 0  # of what answers under the alias here; 0: unknown


@dataclass(frozen=True)
class Breach:
    """A bound that was not kept."""

    bound: str
    message: str
    expected: str
    found: str


class Traffic(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What real requests to the candidate showed during the soak: counts and sums over all of it.

    What was refused for what it asked, or cancelled, tells nothing of the candidate and is not
    counted.
    """

    requests: _Figure = 0
    errors: _Figure = 0  # of the requests: the engine failed
    rated: _Figure = 0  # of the requests: answers that tell a decode rate
    decoded: _Figure = 0  # their tokens after the first of each
    decode_us: _Figure = 0  # what these took, in microseconds

    @property
    def decode_milli_tps(self) -> int:
        """The rate over all answers that tell one together; 0: there are none."""
        return self.decoded * 1_000_000_000 // self.decode_us if self.decode_us else 0

    def plus(self, other: Traffic) -> Traffic:
        """Return what both showed together."""
        return Traffic(
            self.requests + other.requests,
            self.errors + other.errors,
            self.rated + other.rated,
            self.decoded + other.decoded,
            self.decode_us + other.decode_us,
        )


def score_permille(passed: int, total: int) -> int:
    """Return the thousandths of a weight that passed; nothing asked is all passed."""
    return passed * 1000 // total if total else 1000


def chunk_of(context_length: int) -> int:
    """Return the tokens that a model's chunks have, by the context that it was trained for."""
    return min(CHUNK, context_length) if context_length else CHUNK


def chunks_of(count: int, chunk: int, limit: int) -> int:
    """Return how many chunks of a text of `count` tokens are scored: at most `limit` tokens."""
    return max(1, min(count // chunk, limit // (chunk - 1 - chunk // 2)))


def breach_of_text(text: ScoredText, result: ProbeResult) -> Breach | None:
    """Return that the text surprised the candidate too much, or None."""
    if result.perplexity_milli <= text.bound_milli:
        return None
    return _breach(
        "perplexity",
        "the perplexity of the signed text is to be at most",
        _milli(text.bound_milli),
        _milli(result.perplexity_milli),
    )


def breach_of_bounds(bounds: Bounds, result: ProbeResult, before: Before) -> Breach | None:
    """Return the first bound that was not kept, or None."""
    least = max(
        bounds.min_decode_milli_tps, before.decode_milli_tps * bounds.min_decode_permille // 1000
    )
    if result.decode_milli_tps < least:
        found = _milli(result.decode_milli_tps) + " tokens a second"
        if result.decode_milli_tps == 0:
            found = f"answers of fewer than {LEAST_DECODED} tokens, which tell no rate"
        what = "it is to decode at least"
        return _breach("decode rate", what, f"{_milli(least)} tokens a second", found)
    if bounds.max_ttft_ms and result.ttft_ms > bounds.max_ttft_ms:
        what = "its first token is to come within"
        expected, found = f"{bounds.max_ttft_ms} ms", f"{result.ttft_ms} ms"
        return _breach("time to the first token", what, expected, found)
    most = before.declared_bytes * bounds.max_memory_permille // 1000
    if most and not 0 < result.peak_bytes <= most:
        found = f"{result.peak_bytes} bytes" if result.peak_bytes else "no figure of the kernel"
        return _breach("memory", "its worker is to take at most", f"{most} bytes", found)
    return None


def breach_of_soak(bounds: SoakBounds, traffic: Traffic, before: Before) -> Breach | None:
    """Return what real requests showed against the candidate, or None."""
    most, errors, requests = bounds.max_error_permille, traffic.errors, traffic.requests
    is_enough = requests >= bounds.min_requests
    if most is not None and is_enough and errors * 1000 > most * requests:
        return _breach(
            "errors",
            "of 1000 requests there may fail",
            str(most),
            f"{errors * 1000 // requests} ({errors} of {requests})",
        )
    least = before.decode_milli_tps * (bounds.min_decode_permille or 0) // 1000
    if traffic.rated >= bounds.min_requests and traffic.decode_milli_tps < least:
        return _breach(
            "decode rate",
            "it is to decode at least",
            f"{_milli(least)} tokens a second",
            f"{_milli(traffic.decode_milli_tps)} tokens a second over {traffic.rated} answers",
        )
    return None


def matches(answer: str, match: Match, expect: str) -> bool:
    """Tell whether an answer is the expected one. White space around does not count."""
    found, expected = answer.strip(), expect.strip()
    if match == "equals":
        return found == expected
    if match == "contains":
        return expected in found
    try:
        value: Json = msgspec.json.decode(found)
    except (msgspec.DecodeError, RecursionError):
        return False
    return _satisfies(value, msgspec.json.decode(expected), 0)


def check_schema(text: str) -> None:
    """Check that a text is a schema that `matches` knows wholly.

    Known are `type`, `enum`, `const`, `properties`, `required`, `additionalProperties` (true or
    false), `items`, `minItems`, `maxItems`, `minLength`, `maxLength`, `minimum`, `maximum`; `title`
    and `description` say nothing.

    Raises:
        ProbesError: It is not.
    """
    try:
        schema: Json = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProbesError(f"expected a JSON schema, found other text: {error}") from error
    _check_schema(schema, "schema", 0)


_KNOWN: Final[Mapping[str, type | tuple[type, ...]]] = {
    "type": str,
    "enum": list,
    "const": object,
    "properties": dict,
    "required": list,
    "additionalProperties": bool,
    "items": dict,
    "minItems": int,
    "maxItems": int,
    "minLength": int,
    "maxLength": int,
    "minimum": (int, float),
    "maximum": (int, float),
    "title": str,
    "description": str,
}
_TYPES: Final[Mapping[str, tuple[type[object], ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def _check_schema(schema: Json, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ProbesError(f"expected a schema at most {MAX_DEPTH} deep, found a deeper one")
    if not isinstance(schema, dict):
        raise ProbesError(f"{where}: expected an object, found {schema!r:.60}")
    for key, value in schema.items():
        kind = _KNOWN.get(key)
        if kind is None:
            raise ProbesError(f"{where}: a device does not know {key!r}: it knows {_known()}")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
            raise ProbesError(f"{where}: expected another value of {key!r}, found {value!r:.60}")
    named = schema.get("type", "object")
    if named not in _TYPES:
        raise ProbesError(f"{where}: expected a type of {', '.join(_TYPES)}, found {named!r:.60}")
    if not all(isinstance(name, str) for name in schema.get("required", [])):
        raise ProbesError(f"{where}: expected names in 'required', found something else")
    for name, inner in schema.get("properties", {}).items():
        _check_schema(inner, f"{where}.{name}", depth + 1)
    if "items" in schema:
        _check_schema(schema["items"], f"{where}[]", depth + 1)


def _known() -> str:
    return ", ".join(_KNOWN)


def _satisfies(value: Json, schema: Mapping[str, Any], depth: int) -> bool:
    if depth > MAX_DEPTH or not _is_one_of(value, schema):
        return False
    match value:
        case dict():
            return _object_satisfies(value, schema, depth)
        case list():
            inner = schema.get("items", {})
            return _is_within(len(value), schema, "Items") and all(
                _satisfies(one, inner, depth + 1) for one in value
            )
        case str():
            return _is_within(len(value), schema, "Length")
        case bool() | None:
            return True
        case _:
            least, most = schema.get("minimum", value), schema.get("maximum", value)
            return bool(least <= value <= most)


def _is_one_of(value: Json, schema: Mapping[str, Any]) -> bool:
    return (
        _is_a(value, schema.get("type"))
        and ("const" not in schema or _same(value, schema["const"]))
        and ("enum" not in schema or any(_same(value, one) for one in schema["enum"]))
    )


def _object_satisfies(value: dict[str, Any], schema: Mapping[str, Any], depth: int) -> bool:
    properties = cast("dict[str, Any]", schema.get("properties", {}))
    if not all(name in value for name in schema.get("required", ())):
        return False
    if not schema.get("additionalProperties", True) and not value.keys() <= properties.keys():
        return False
    return all(
        _satisfies(value[name], inner, depth + 1)
        for name, inner in properties.items()
        if name in value
    )


def _is_a(value: Json, named: str | None) -> bool:
    if named is None:
        return True
    if isinstance(value, bool):  # which Python takes for an integer
        return named == "boolean"
    if isinstance(value, float) and named == "integer":
        return value.is_integer()
    return type(value) in _TYPES[named]


def _same(one: Json, other: Json) -> bool:
    """Tell whether two values are equal; Python takes true for 1, at any depth."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _is_within(count: int, schema: Mapping[str, Any], what: str) -> bool:
    return bool(schema.get(f"min{what}", 0) <= count <= schema.get(f"max{what}", count))


def _breach(bound: str, what: str, expected: str, found: str) -> Breach:
    return Breach(bound, f"{what} {expected}; found {found}", expected, found)


def _milli(value: int) -> str:
    return f"{value // 1000}.{value % 1000:03}"
