"""What a policy may say, and the one sentence for what it may not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.audit.policy import MOST_BYTES, Capture, Policy, PolicyError, parse

CAPTURE = '[capture]\ncontent = "text"\nbasis = "GDPR Art. 6(1)(c): it is the law"\n'
DAYS = "retention_days = 30\n"


@pytest.mark.parametrize(
    ("said", "one_in"),
    [("each", 1), ("hourly", 0), ("1/1", 1), ("1/250", 250), ("1/1000000", 10**6)],
)
def test_how_much_of_inference_goes_on_record(said: str, one_in: int) -> None:
    policy = parse(f'inference = "{said}"'.encode())
    assert policy == Policy(one_in)
    assert policy.told() == {"inference": "each" if one_in == 1 else said, "content": "none"}


def test_without_a_word_there_are_sums_and_nothing_of_what_was_said() -> None:
    assert parse(b"") == Policy(0, None)


def test_content_takes_a_basis_and_a_retention() -> None:
    found = parse(f'inference = "each"\n{CAPTURE}{DAYS}'.encode())
    assert found.capture == Capture("text", "GDPR Art. 6(1)(c): it is the law", 30, 4096)
    assert found.told() == {"inference": "each", "content": "text"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('inference = "1/0"', "expected `each`, `hourly` or `1/N` .* found '1/0'"),
        ('inference = "1/9999999"', "N up to 1000000"),
        ('inference = "often"', "found 'often'"),
        ("inference = 3", "expected a TOML file .*Expected `str`"),
        ("inferenc = 'each'", "expected a TOML file .*unknown field"),
        ("not toml", "expected a TOML file"),
        ("[capture]", "required field `content`"),
        (f'inference = "each"\n[capture]\ncontent = "text"\n{DAYS}', "takes a legal basis.*''"),
        (
            f'inference = "each"\n[capture]\ncontent = "hash"\nbasis = "  \\t  "\n{DAYS}',
            "the hash of what is said takes a legal basis",
        ),
        (f'inference = "each"\n[capture]\ncontent = "hash"\nbasis = "ok"\n{DAYS}', "found 'ok'"),
        (f'inference = "each"\n{CAPTURE}', "takes a retention: expected 1 to 36500 .* found 0"),
        (f'inference = "each"\n{CAPTURE}retention_days = -1', "found -1"),
        (f'inference = "each"\n{CAPTURE}{DAYS}most_bytes = 99999999', "as most_bytes, found 9999"),
        (f"{CAPTURE}{DAYS}", "sums have no place for the text .* found `hourly`"),
        (
            f'inference = "each"\n[capture]\ncontent = "all"\nbasis = "It is the law"\n{DAYS}',
            "expected `hash` or `text` as content, found 'all'",
        ),
    ],
)
def test_what_cannot_be_obeyed_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence) as refused:
        parse(text.encode())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        b"inference = " + b"[" * 10_000,
        b"inference = " + b"{a=" * 5000,
        b"x = " + b"9" * 5000,
        b"\xff",
    ],
)
def test_what_no_reader_takes_is_refused_in_one_sentence(data: bytes) -> None:
    with pytest.raises(PolicyError, match="expected a TOML file") as refused:
        parse(data)
    assert "\n" not in str(refused.value)


def test_a_policy_is_read_only_within_its_bound() -> None:
    """Names with a hundred thousand dots take their reader minutes."""
    parse(b"#" * MOST_BYTES)
    with pytest.raises(PolicyError, match="expected up to 16384 bytes, found 16385"):
        parse(b"#" * (MOST_BYTES + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_policy_or_refused(data: bytes) -> None:
    with suppress(PolicyError):
        parse(data)
