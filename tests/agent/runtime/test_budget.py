"""The budget holds whatever is asked; pinned models stay; nothing is evicted in vain."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from sprat_agent.runtime.budget import Drain, Evict, Held, Load, Refuse, decide

SIZES = st.integers(1, 60)
BUDGET = 100
HELD = st.lists(
    st.builds(
        Held,
        name=st.sampled_from("abcdefgh"),
        size_bytes=SIZES,
        is_pinned=st.booleans(),
        is_busy=st.booleans(),
        last_used=st.integers(0, 5).map(float),
    ),
    unique_by=lambda one: one.name,
)


def total(models: list[Held]) -> int:
    return sum(one.size_bytes for one in models)


def test_what_fits_beside_the_others_is_loaded() -> None:
    assert decide([Held("a", 40)], 60, BUDGET) == Load()


def test_the_least_recently_used_idle_model_goes_first() -> None:
    held = [
        Held("late", 30, last_used=3),
        Held("early", 30, last_used=1),
        Held("pinned", 30, is_pinned=True),
        Held("busy", 10, is_busy=True),
    ]
    assert decide(held, 20, BUDGET) == Evict(("early",))
    assert decide(held, 60, BUDGET) == Evict(("early", "late"))
    assert decide(held, 70, BUDGET) == Drain(("busy",), ("early", "late"))
    assert decide(held, 71, BUDGET) == Refuse(71, BUDGET, (held[2],))


def test_a_small_model_is_spared_when_a_big_one_must_go_anyway() -> None:
    held = [Held("small", 10, last_used=1), Held("big", 80, last_used=2)]
    assert decide(held, 80, BUDGET) == Evict(("big",))


def test_a_busy_model_is_never_evicted_at_once() -> None:
    assert decide([Held("a", 80, is_busy=True)], 80, BUDGET) == Drain(("a",), ())


@given(HELD, SIZES)
def test_a_decision_keeps_the_budget_and_the_pinned_and_takes_nothing_in_vain(
    held: list[Held], need: int
) -> None:
    assume(total(held) <= BUDGET)
    by_name = {one.name: one for one in held}
    match decide(held, need, BUDGET):
        case Load():
            assert total(held) + need <= BUDGET
        case Evict(names):
            going = [by_name[name] for name in names]
            assert not any(one.is_busy for one in going)
            assert_just_enough(held, going, need)
        case Drain(busy, idle):
            assert all(by_name[name].is_busy for name in busy)
            assert not any(by_name[name].is_busy for name in idle)
            assert_just_enough(held, [by_name[name] for name in busy + idle], need)
            free = [one for one in held if not one.is_pinned and not one.is_busy]
            assert total(held) - total(free) + need > BUDGET  # idle ones do not suffice
        case Refuse(need_bytes, budget_bytes, held_by):
            assert (need_bytes, budget_bytes) == (need, BUDGET)
            assert list(held_by) == [one for one in held if one.is_pinned]
            assert total(list(held_by)) + need > BUDGET


def assert_just_enough(held: list[Held], going: list[Held], need: int) -> None:
    assert going
    assert not any(one.is_pinned for one in going)
    left = total(held) - total(going)
    assert left + need <= BUDGET
    assert all(left + one.size_bytes + need > BUDGET for one in going)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.booleans())))
def test_no_sequence_of_requests_exceeds_the_budget(
    requests: list[tuple[str, bool, bool]],
) -> None:
    sizes = {name: 15 + 12 * at for at, name in enumerate("abcdefgh")}
    memory: dict[str, Held] = {}
    for at, (name, is_pinned, is_busy) in enumerate(requests):
        pinned = {one.name for one in memory.values() if one.is_pinned}
        if name not in memory:
            match decide(list(memory.values()), sizes[name], BUDGET):
                case Evict(names):
                    for gone in names:
                        del memory[gone]
                case Drain(busy, idle):
                    for gone in busy + idle:
                        del memory[gone]
                case Refuse():
                    continue
                case Load():
                    pass
        assert pinned <= set(memory)
        memory[name] = Held(name, sizes[name], is_pinned, is_busy, float(at))
        assert total(list(memory.values())) <= BUDGET
