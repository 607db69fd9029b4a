"""What is kept of prefixes, what gives way, what is read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.worker.batching.prefixes import MIN_AWAITED, common
from sprat_agent.worker.spilling.decide import (
    BLOCK,
    MIN_LONG,
    MIN_SHARED,
    Allowance,
    Rates,
    Stored,
    covering,
    giving_way,
    is_last_chance,
    is_worth,
    ranked,
    restorable,
    touched,
    used,
)

ROOM = 1000
FAST_DISK = Rates(token_s=0.005, read_bytes_s=200e6)


def stored(
    number: int, tokens: list[int], room: int = 100, cost_s: float = 1.0, uses: int = 1
) -> Stored:
    return ranked(Stored(number, tokens, room, room, cost_s, uses), 0.0)


def run(length: int, first: int = 0) -> list[int]:
    return list(range(first, first + length))


@st.composite
def shelves(draw: st.DrawFn) -> list[Stored]:
    """Return prefixes that fit the room, of tokens that often begin alike."""
    left, found = ROOM, list[Stored]()
    for number in range(draw(st.integers(0, 6))):
        room = draw(st.integers(1, 400))
        if room > left:
            break
        left -= room
        tokens = run(draw(st.integers(1, 300)), draw(st.sampled_from([0, 0, 1000])))
        uses, cost_s = draw(st.integers(1, 9)), draw(st.floats(0, 10))
        one = Stored(number, tokens, room, room, cost_s, uses)
        found.append(ranked(one, draw(st.floats(0, 1))))
    return found


@given(shelves(), st.integers(1, 1200), st.integers(1, 300), st.floats(0, 10), st.integers(1, 3))
def test_what_is_kept_never_takes_more_than_the_room(
    there: list[Stored], room: int, length: int, cost_s: float, uses: int
) -> None:
    newcomer = ranked(Stored(99, run(length), room, room, cost_s, uses), 0.0)
    going = giving_way(newcomer, there, ROOM)
    if going is None:
        return
    gone = {one.number for one in going}
    assert newcomer.room + sum(one.room for one in there if one.number not in gone) <= ROOM


@given(shelves(), st.integers(1, 1200), st.integers(1, 300), st.floats(0, 10))
def test_nothing_gives_way_to_what_is_worth_less(
    there: list[Stored], room: int, length: int, cost_s: float
) -> None:
    newcomer = ranked(Stored(99, run(length), room, room, cost_s), 0.0)
    for one in giving_way(newcomer, there, ROOM) or ():
        is_continued = common(one.tokens, newcomer.tokens, length) == len(one.tokens)
        assert one.rank <= newcomer.rank or (is_continued and one.uses == 1)


def test_nothing_gives_way_while_there_is_room() -> None:
    assert giving_way(stored(9, run(200, 500)), [stored(1, run(200))], ROOM) == []


def test_the_prefix_that_saves_least_per_byte_goes_first() -> None:
    there = [
        stored(1, run(200, 1000), room=300, cost_s=9.0),
        stored(2, run(200, 2000), room=300, cost_s=1.0),
        stored(3, run(200, 3000), room=300, cost_s=5.0),
    ]
    going = giving_way(stored(9, run(200), room=300, cost_s=6.0), there, ROOM)
    assert [one.number for one in going or ()] == [2]


def test_a_prefix_that_is_continued_goes_unless_several_prompts_began_with_it() -> None:
    conversation, system = stored(1, run(200)), stored(2, run(150), uses=2)
    going = giving_way(stored(9, run(300)), [conversation, system], ROOM)
    assert [one.number for one in going or ()] == [1]


def test_what_nobody_asks_for_is_overtaken_in_the_end() -> None:
    old = stored(1, run(200, 1000), room=ROOM, cost_s=100.0, uses=50)
    floor, newcomer = 0.0, stored(2, run(200))
    for _ in range(10_000):
        newcomer = ranked(newcomer, floor)
        if giving_way(newcomer, [old], ROOM):
            return
        floor = newcomer.rank  # another one like it came and went
    raise AssertionError("it stays for ever")


def test_each_use_raises_the_rank() -> None:
    one = stored(1, run(200))
    assert used(one, 0.0).rank > one.rank
    assert used(one, 0.0).uses == 2


def test_a_prefix_that_another_nearly_covers_is_not_kept_twice() -> None:
    there = [stored(1, run(500))]
    assert covering(run(500 + BLOCK - 1), there) == there[0]
    assert covering(run(500 + BLOCK), there) is None
    assert covering(run(300), there) == there[0]


def test_only_long_prompts_and_shared_prefixes_are_worth_it() -> None:
    for length, is_shared in ((MIN_LONG, False), (MIN_SHARED, True)):
        assert is_worth(length, 1, FAST_DISK, is_shared=is_shared)
        assert not is_worth(length - 1, 1, FAST_DISK, is_shared=is_shared)


def test_what_is_computed_faster_than_read_is_not_kept() -> None:
    size = 500 * 114_000  # takes 0.29 s to read
    assert is_worth(500, size, Rates(0.005, 200e6), is_shared=True)
    assert not is_worth(500, size, Rates(0.001, 200e6), is_shared=True)


def test_a_prompt_is_kept_when_it_is_whole_or_would_become_too_large() -> None:
    assert is_last_chance(300, 300, 512, 1000.0, 600_000)
    assert is_last_chance(512, 700, 512, 1000.0, 600_000)
    assert not is_last_chance(512, 600, 512, 1000.0, 600_000)


def test_a_prefix_is_read_back_when_that_is_faster() -> None:
    one = stored(1, run(500), room=57_000_000, cost_s=2.5)
    prompt = [*run(480), *run(50, 9000)]
    assert restorable(prompt, 0, [one], FAST_DISK) == one
    assert restorable(prompt, 0, [one], Rates(0.005, 40e6)) is None  # 1.4 s to read 2.4 s of work
    assert restorable(prompt, 400, [one], FAST_DISK) is None
    assert restorable(run(50, 9000), 0, [one], FAST_DISK) is None


@given(shelves(), st.integers(1, 300), st.integers(0, 300))
def test_what_is_read_back_is_always_of_use(there: list[Stored], length: int, shared: int) -> None:
    prompt = run(length)
    found = restorable(prompt, shared, there, FAST_DISK)
    if found:
        assert common(found.tokens, prompt, length - 1) >= shared + MIN_AWAITED


def test_of_two_prefixes_that_serve_alike_the_smaller_is_read() -> None:
    large, small = stored(1, run(600), room=600), stored(2, run(300), room=300)
    prompt = [*run(300), *run(100, 9000)]
    assert restorable(prompt, 0, [large, small], FAST_DISK) == small
    assert touched(prompt, [large, small]) == small
    assert touched(run(MIN_SHARED - 1), [large, small]) is None


def test_no_more_is_written_than_the_allowance_grows() -> None:
    allowance = Allowance(1000, 1000.0, 0.0)
    assert allowance.take(1000, 0.0)
    assert not allowance.take(100, 300.0)
    assert allowance.take(100, 400.0)


@given(st.lists(st.tuples(st.integers(0, 600), st.floats(0, 4000)), max_size=40))
def test_in_no_time_is_more_written_than_allowed(orders: list[tuple[int, float]]) -> None:
    allowance, now, taken = Allowance(500, 500.0, 0.0), 0.0, 0
    for size, pause_s in orders:
        now += pause_s
        taken += size if allowance.take(size, now) else 0
        assert taken <= 500 + 500 * now / 3600 + 1e-6
