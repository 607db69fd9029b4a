from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_proto.identity import enrolment_statement, renewal_statement, serial_text

words = st.text(max_size=30)


@given(st.tuples(words, words, words), st.tuples(words, words, words))
def test_two_statements_are_equal_only_if_all_of_it_is(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    signed = [
        enrolment_statement(secret_sha256=token, csr_pem=csr, identity_key_pem=key)
        for token, csr, key in (one, other)
    ]
    assert (signed[0] == signed[1]) == (one == other)


@given(words, words, words, words)
def test_a_statement_of_one_kind_is_never_one_of_the_other(a: str, b: str, c: str, d: str) -> None:
    enrolled = enrolment_statement(secret_sha256=a, csr_pem=b, identity_key_pem=c)
    assert enrolled != renewal_statement(device_id=a, serial=d, csr_pem=b)


def test_the_bytes_are_a_format() -> None:
    assert renewal_statement(device_id="gw-1", serial="0a", csr_pem="x") == (
        b'sprat-renew-v1\0{"csr_sha256":'
        b'"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",'
        b'"device_id":"gw-1","serial":"0a"}'
    )
    assert serial_text(0xABC) == "abc"
