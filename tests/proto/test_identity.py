from __future__ import annotations

from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st
from sprat_proto.identity import enrolment_statement, renewal_statement, serial_text

words = st.text(max_size=30)


parts = st.tuples(words, words, words, words, st.binary(max_size=4))
Parts: TypeAlias = tuple[str, str, str, str, bytes]


def enrolment(token: str, csr: str, key: str, audit: str, seed: bytes) -> bytes:
    return enrolment_statement(
        secret_sha256=token,
        csr_pem=csr,
        identity_key_pem=key,
        audit_key_pem=audit,
        audit_seed=seed,
    )


@given(parts, parts, st.integers(0, 4))
def test_two_statements_are_equal_only_if_all_of_it_is(one: Parts, other: Parts, at: int) -> None:
    assert (enrolment(*one) == enrolment(*other)) == (one == other)
    # And a change in one place only is one.
    mixed = [
        (other[0], *one[1:]),
        (one[0], other[1], *one[2:]),
        (*one[:2], other[2], *one[3:]),
        (*one[:3], other[3], one[4]),
        (*one[:4], other[4]),
    ][at]
    assert (enrolment(*one) == enrolment(*mixed)) == (one == mixed)


@given(words, words, words, words)
def test_a_statement_of_one_kind_is_never_one_of_the_other(a: str, b: str, c: str, d: str) -> None:
    enrolled = enrolment(a, b, c, d, b"")
    assert enrolled != renewal_statement(device_id=a, serial=d, csr_pem=b)


def test_the_bytes_are_a_format() -> None:
    assert renewal_statement(device_id="gw-1", serial="0a", csr_pem="x") == (
        b'sprat-renew-v1\0{"csr_sha256":'
        b'"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",'
        b'"device_id":"gw-1","serial":"0a"}'
    )
    assert serial_text(0xABC) == "abc"
