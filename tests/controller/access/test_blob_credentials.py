from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.access.blob_credentials import LIFETIME, BlobCredentials

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OURS = BlobCredentials(b"s" * 32)


def test_a_credential_names_its_device_for_a_week() -> None:
    text, expires = OURS.mint("gw-1", NOW)
    assert expires == NOW + LIFETIME
    assert OURS.check(text, NOW) == "gw-1"
    assert OURS.check(text, expires - timedelta(seconds=1)) == "gw-1"
    assert OURS.check(text, expires) is None


def test_another_secret_made_none_of_ours() -> None:
    text, _ = BlobCredentials(b"t" * 32).mint("gw-1", NOW)
    assert OURS.check(text, NOW) is None


@given(position=st.integers(0, 10_000), character=st.characters())
def test_no_character_of_a_credential_can_be_another(position: int, character: str) -> None:
    text, _ = OURS.mint("gw-1", NOW)
    position %= len(text)
    changed = text[:position] + character + text[position + 1 :]
    assert changed == text or OURS.check(changed, NOW) is None


@given(st.text())
def test_other_text_is_no_credential(text: str) -> None:
    assert OURS.check(text, NOW) is None


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes, found 31"):
        BlobCredentials(b"s" * 31)


def test_a_name_that_is_no_device_id_gets_none() -> None:
    with pytest.raises(ValueError, match="expected a device id"):
        OURS.mint("a.b", NOW)
