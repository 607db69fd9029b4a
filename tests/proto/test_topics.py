from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto import topics

device_ids = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", fullmatch=True)
BUILDERS = [topics.up, topics.presence, topics.down, topics.assignment]


@given(device_ids, st.sampled_from(BUILDERS))
def test_a_topic_leads_back_to_its_device(device_id: str, build: Callable[[str], str]) -> None:
    assert topics.device_of(build(device_id)) == device_id


@given(device_ids)
def test_the_shared_subscription_covers_what_a_device_says_and_nothing_it_is_told(
    device_id: str,
) -> None:
    wanted = topics.all_up("controllers").removeprefix("$share/controllers/").split("/")
    for build in BUILDERS:
        assert matches(wanted, build(device_id).split("/")) == (
            build in (topics.up, topics.presence)
        )


def matches(wanted: Sequence[str], topic: Sequence[str]) -> bool:
    """MQTT's own rule, for a filter with `+` and a final `#`."""
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(topic) or level not in ("+", topic[position]):
            return False
    return len(wanted) == len(topic)


@given(st.text(max_size=70))
def test_a_device_name_has_no_character_that_means_something_elsewhere(text: str) -> None:
    if topics.is_device_id(text):
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert 0 < len(text) <= 64
        assert not text.startswith("-")
        assert not text.endswith("-")


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a/b", "a+", "#", "a.b", "a\n", "x" * 65])
def test_other_words_are_no_device_names(text: str) -> None:
    assert not topics.is_device_id(text)


@given(st.text(max_size=100))
def test_any_other_topic_is_nobodys(topic: str) -> None:
    assert topics.device_of(topic) is None


@pytest.mark.parametrize(
    "topic",
    [
        "sprat/v1/devices/",
        "sprat/v1/devices/gw-1",
        "sprat/v1/devices/gw-1/",
        "sprat/v1/devices//up",
        "sprat/v1/devices/a b/up",
        "x/sprat/v1/devices/gw-1/up",
        "sprat/v2/devices/gw-1/up",
    ],
)
def test_almost_our_topics_are_nobodys(topic: str) -> None:
    assert topics.device_of(topic) is None
