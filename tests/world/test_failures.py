"""What goes wrong, said in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.world.failures import MIXES, Failures, FailuresError, parse, said

SHARE = st.floats(0, 1)
ANY = st.builds(
    Failures,
    crash=SHARE,
    corrupt=SHARE,
    silent_fallback=SHARE,
    rejects=SHARE,
    slow=SHARE,
    slow_factor=st.floats(0.1, 1_000),
    offline=SHARE,
    offline_s=st.integers(0, 10**8),
    flapping=SHARE,
    flap_up_s=st.integers(1, 10**6),
    skew=SHARE,
    slow_class=st.integers(-1, 8),
)


@given(ANY)
def test_what_is_said_is_read_back(failures: Failures) -> None:
    assert parse(said(failures)) == failures


@pytest.mark.parametrize("name", list(MIXES))
def test_a_mix_has_a_name_and_can_be_changed(name: str) -> None:
    assert parse(name) == MIXES[name]
    assert parse(f"{name},crash=0.25").crash == 0.25


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stormy", "there is no mix 'stormy'"),
        ("none,tornado=1", "there is no failure 'tornado'"),
        ("crash=much", "crash is a number, not 'much'"),
        ("crash=1.5", "crash is a share from 0 to 1, not 1.5"),
        ("crash=nan", "crash is a share from 0 to 1, not nan"),
        ("slow_factor=0", "slow_factor is a number above 0, not 0.0"),
        ("slow_factor=inf", "slow_factor is a number above 0, not inf"),
        ("offline_s=-1", "offline_s is 0 or more, not -1"),
        ("crash", "there is no mix 'crash'"),
        ("", "there is no mix ''"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(FailuresError, match=sentence):
        parse(text)
