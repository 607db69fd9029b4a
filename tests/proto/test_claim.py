from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto.claim import Claim, ClaimError, ClaimFile, parse, read_file, write_file

secrets = st.text(string.ascii_letters + string.digits + "-_", min_size=43, max_size=43)
fingerprints = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(secrets, fingerprints, st.sampled_from(["", " ", "\n"]))
def test_a_token_comes_apart_as_it_was_put_together(secret: str, ca: str, space: str) -> None:
    assert parse(f"{space}{Claim(secret, ca)}{space}") == Claim(secret, ca)


@given(st.text(max_size=150))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ClaimError):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"sprat2.{'a' * 43}.{'0' * 64}",
        f"sprat1.{'a' * 42}.{'0' * 64}",
        f"sprat1.{'a' * 43}.{'0' * 63}",
        f"sprat1.{'a' * 43}.{'A' * 64}",
        f"sprat1.{'a' * 43}.{'0' * 64}.more",
        f"sprat1.{'a' * 42}=.{'0' * 64}",
    ],
)
def test_almost_a_token_is_none_and_its_secret_is_not_repeated(text: str) -> None:
    with pytest.raises(ClaimError) as caught:
        parse(text)
    assert "a" * 10 not in str(caught.value)
    assert "sprat enrolment create" in str(caught.value)


def test_the_controller_keeps_only_the_hash_of_the_secret() -> None:
    claim = Claim("s" * 43, "0" * 64)
    assert claim.secret_sha256 == hashlib.sha256(b"s" * 43).hexdigest()


@given(st.text(max_size=50), st.text(max_size=50), st.none() | st.text(max_size=50))
def test_a_claim_file_is_read_as_it_was_written(
    controller: str, token: str, root: str | None
) -> None:
    file = ClaimFile(controller, token, root)
    assert read_file(write_file(file)) == file


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"controller":"x"}'])
def test_a_file_that_is_no_claim_is_refused(data: bytes) -> None:
    with pytest.raises(ClaimError, match="expected a claim file"):
        read_file(data)
