from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.controlled import BIG, MODEL, SMALL, TINY, World
from sprat_controller.errors import ConflictError
from sprat_controller.rollout import saved_plans
from sprat_controller.rollout.requests import PlanRequest
from sprat_controller.rollout.saved_plans import Line

PLAN = PlanRequest(MODEL, "1.0.0", "assistant", context=256)
LINE = Line("gw-1", "c1", "", "INSTALL", "q8_0", "8" * 64, "")

words = st.sampled_from(("", "a", "b"))
lines = st.lists(
    st.builds(Line, st.sampled_from(("gw-1", "gw-2", "gw-3")), *(words,) * 6),
    unique_by=lambda line: line.device,
    max_size=3,
)


def looked_at(world: World) -> tuple[Line, ...]:
    return saved_plans.rests_on(world.service.plan(PLAN))


def test_a_plan_of_an_unchanged_fleet_is_fresh(world: World) -> None:
    for name, budget in (("big", BIG), ("small", SMALL), ("tiny", TINY)):
        world.join(name, budget)
    before = looked_at(world)
    world.wait(days=1)
    now = looked_at(world)
    assert saved_plans.digest_of(before) == saved_plans.digest_of(now)
    saved_plans.check_fresh("p-1", before, now)


def test_what_changed_in_the_fleet_is_named(world: World) -> None:
    device = world.join("big", BIG)
    before = looked_at(world)
    world.join("new", BIG)
    world.create()
    world.run_due()
    device.sync()
    with pytest.raises(ConflictError) as refused:
        saved_plans.check_fresh("p-1", before, looked_at(world))
    assert refused.value.code == "plan_stale"
    assert "the plan p-1 is stale: device big runs talk@1.0.0+q8_0 now" in refused.value.message
    assert "device new is in the target now; plan again" in refused.value.message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hardware": "c2"}, "device gw-1 has other hardware now (c1 -> c2)"),
        ({"runs": "talk@0.9.0+f16"}, "device gw-1 runs talk@0.9.0+f16 now, not nothing"),
        ({"variant": "q4_0", "digest": "4" * 64}, "device gw-1 would get q4_0 now, not q8_0"),
        (
            {"action": "REJECTED", "code": "NO_PROFILE"},
            "device gw-1 would be REJECTED (NO_PROFILE) now, not INSTALL",
        ),
    ],
)
def test_each_difference_of_a_device_is_said(change: dict[str, str], says: str) -> None:
    now = msgspec.structs.replace(LINE, **change)
    assert list(saved_plans.changes([LINE], [now])) == [says]


def test_a_device_that_left_is_named_and_only_the_first_few_are() -> None:
    before = [msgspec.structs.replace(LINE, device=f"gw-{number}") for number in range(8)]
    with pytest.raises(ConflictError, match=r"gw-0 is no longer in the target;.* and 3 more;"):
        saved_plans.check_fresh("p-1", before, [])


@given(lines, lines)
def test_a_plan_is_fresh_exactly_if_it_rests_on_the_same(
    before: list[Line], now: list[Line]
) -> None:
    order = [sorted(one, key=lambda line: line.device) for one in (before, now)]
    is_same = saved_plans.digest_of(order[0]) == saved_plans.digest_of(order[1])
    assert (not list(saved_plans.changes(before, now))) == is_same
