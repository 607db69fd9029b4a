from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.worker.batching.prefixes import MIN_SHARED, Kept, Place, common, place

tokens = st.lists(st.integers(0, 2), max_size=80)
adapters = st.sampled_from(["", "a", "b"])


@given(tokens, tokens, st.integers(0, 90))
def test_common_counts_the_tokens_both_begin_with(a: list[int], b: list[int], most: int) -> None:
    length = common(a, b, most)
    assert a[:length] == b[:length]
    assert length <= most
    at_an_end = length in {most, len(a), len(b)}
    assert at_an_end or a[length] != b[length]


@st.composite
def some_kept(draw: st.DrawFn) -> list[Kept]:
    count = draw(st.integers(1, 5))
    return [
        Kept(
            number,
            held := draw(tokens),
            draw(st.integers(0, len(held))),
            draw(st.booleans()),
            draw(st.integers(0, 9)),
            draw(adapters),
        )
        for number in range(count)
    ]


@given(st.lists(st.integers(0, 2), min_size=1, max_size=80), some_kept(), st.booleans(), adapters)
def test_a_place_is_free_and_shares_only_what_is_computed_and_equal(
    prompt: list[int],
    kept: list[Kept],
    is_fresh: bool,  # noqa: FBT001 - drawn
    adapter: str,
) -> None:
    found = place(prompt, kept, is_fresh=is_fresh, adapter=adapter)
    if found is None:
        assert any(one.is_busy for one in kept)
        return
    assert not kept[found.sequence].is_busy
    source = kept[found.source]
    assert found.shared <= min(source.computed, len(prompt) - 1)
    assert list(source.tokens[: found.shared]) == prompt[: found.shared]
    assert found.shared == 0 or found.shared >= MIN_SHARED
    assert found.shared == 0 or source.adapter == adapter
    assert not (is_fresh and found.shared)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=80), some_kept())
def test_a_prompt_waits_only_for_one_who_computes_its_prefix(
    prompt: list[int], kept: list[Kept]
) -> None:
    idle = [replace(one, is_busy=False) for one in kept]
    assert place(prompt, idle, is_fresh=False) is not None
    others = [replace(one, is_busy=one.sequence > 0, adapter="other") for one in kept]
    assert place(prompt, others, is_fresh=False) is not None


LONG = list(range(100))


def test_a_prefix_in_the_making_is_waited_for() -> None:
    making = Kept(0, LONG, 20, is_busy=True, used=1)
    empty = Kept(1, [], 0, is_busy=False, used=0)
    assert place([*LONG, 7], [making, empty], is_fresh=False) is None


def test_a_prefix_that_is_there_is_copied_from_one_who_answers() -> None:
    made = Kept(0, [*LONG, 1, 2], 102, is_busy=True, used=1)
    empty = Kept(1, [], 0, is_busy=False, used=0)
    assert place([*LONG, 7], [made, empty], is_fresh=False) == Place(1, 0, 100)


def test_a_conversation_goes_on_in_its_own_sequence() -> None:
    first = Kept(0, LONG, 100, is_busy=False, used=1)
    other = Kept(1, [5] * 50, 50, is_busy=False, used=0)
    assert place([*LONG, 7, 8], [first, other], is_fresh=False) == Place(0, 0, 100)


def test_a_prompt_that_shares_little_takes_the_oldest_sequence() -> None:
    first = Kept(0, LONG, 100, is_busy=False, used=2)
    other = Kept(1, [5] * 50, 50, is_busy=False, used=1)
    found = place([*LONG[:30], 200, 201], [first, other], is_fresh=False)
    assert found == Place(1, 0, 30)


def test_a_fresh_prompt_shares_nothing() -> None:
    first = Kept(0, LONG, 100, is_busy=False, used=2)
    assert place([*LONG, 7], [first], is_fresh=True) == Place(0, 0, 0)


def test_what_another_adapter_computed_is_neither_shared_nor_waited_for() -> None:
    made = Kept(0, LONG, 100, is_busy=False, used=2, adapter="a")
    making = Kept(1, LONG, 20, is_busy=True, used=3, adapter="b")
    empty = Kept(2, [], 0, is_busy=False, used=1)
    assert place([*LONG, 7], [made, making, empty], is_fresh=False) == Place(2, 2, 0)
    assert place([*LONG, 7], [made, making, empty], is_fresh=False, adapter="a") == Place(0, 0, 100)
    assert place([*LONG, 7], [made, making, empty], is_fresh=False, adapter="b") is None
