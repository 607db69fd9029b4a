from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from sprat_proto import canonical


class Thing(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    counts: dict[str, int]


values = st.recursive(
    st.integers(-(1 << 53), 1 << 53) | st.text() | st.booleans() | st.none(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=8,
)


@given(values)
def test_the_bytes_of_a_value_are_always_the_same(value: object) -> None:
    once = canonical.encode(value)
    assert canonical.encode(value) == once
    assert b"\n" not in once


@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_of_keys_does_not_matter(mapping: dict[str, int]) -> None:
    backwards = dict(reversed(mapping.items()))
    assert canonical.encode(mapping) == canonical.encode(backwards)


@given(st.text(), st.dictionaries(st.text(), st.integers(-(1 << 53), 1 << 53)))
def test_a_struct_comes_back(name: str, counts: dict[str, int]) -> None:
    thing = Thing(name, counts)
    assert canonical.decode(canonical.encode(thing), Thing, "thing") == thing


@given(st.binary(max_size=80))
def test_only_the_canonical_spelling_is_read(data: bytes) -> None:
    try:
        thing = canonical.decode(data, Thing, "thing")
    except canonical.NotCanonicalError as error:
        assert str(error).startswith("thing: ")  # noqa: PT017 - most examples end here
    else:
        assert canonical.encode(thing) == data


@pytest.mark.parametrize(
    "data",
    [
        b'{"name":"a","counts":{}}',
        b'{"counts":{}, "name":"a"}',
        b'{"counts":{},"name":"\\u0061"}',
        b'{"counts":{"b":1,"a":1},"name":"a"}',
        b'{"counts":{"a":1.0},"name":"a"}',
        b'{"counts":{},"name":"a","more":1}',
        b'{"counts":{},"name":"\xff"}',
        b'{"counts":{},"name":"a"}\n',
    ],
)
def test_other_spellings_are_refused(data: bytes) -> None:
    with pytest.raises(canonical.NotCanonicalError):
        canonical.decode(data, Thing, "thing")


def test_the_digest_is_sha256_in_lower_case_hex() -> None:
    assert canonical.sha256_hex(b"abc") == hashlib.sha256(b"abc").hexdigest()
