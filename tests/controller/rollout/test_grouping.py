from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.errors import RequestError
from sprat_controller.fleet.filters.fields import Facts
from sprat_controller.rollout import grouping
from sprat_controller.rollout.grouping import Begun, Member, Placed, even, join, ramp, split
from sprat_controller.rollout.strategy import ALL_AT_ONCE, LADDER, Gate, Group, Strategy

SALT = "qwen3-0.6b@1.3.0"
# The ladder on fleets of each size: canary, 1 %, 10 %, half, rest.
LADDER_SIZES = """
        1 |  1    0    0     0     0
        2 |  1    1    0     0     0
        3 |  1    1    1     0     0
       10 |  1    1    1     4     3
      100 |  1    1    9    40    49
   10_000 |  1  100  900  4000  4999
"""


def a_fleet(count: int, classes: int = 4, sites: int = 5) -> list[Member]:
    """Make devices in classes that get rarer: half, a quarter, an eighth, the rest."""
    return [
        Member(f"d-{number:05d}", f"class-{_rarer(number, classes)}", f"site-{number % sites}")
        for number in range(count)
    ]


def _rarer(number: int, classes: int) -> int:
    share = (number * 0.618) % 1
    return min(classes - 1, int(-math.log2(1 - share)))


def counts(placed: list[Placed], groups: int) -> list[int]:
    found = Counter(one.group for one in placed)
    return [found[number] for number in range(groups)]


def ids(placed: list[Placed], *groups: int) -> set[str]:
    return {one.device_id for one in placed if one.group in groups}


@pytest.mark.parametrize("line", LADDER_SIZES.strip().splitlines())
def test_the_ladder_has_these_sizes(line: str) -> None:
    devices, expected = line.split("|")
    placed = split(a_fleet(int(devices)), LADDER, SALT)
    assert counts(placed, 5) == [int(size) for size in expected.split()]
    assert list(grouping.sizes(LADDER, int(devices))) == counts(placed, 5)


def test_nobody_is_in_a_rollout_to_nobody() -> None:
    assert split([], LADDER, SALT) == []
    assert grouping.sizes(LADDER, 0) == (0, 0, 0, 0, 0)


def test_all_at_once_is_one_group() -> None:
    placed = split(a_fleet(50), ALL_AT_ONCE, SALT)
    assert {one.group for one in placed} == {0}


groups = st.lists(
    st.one_of(
        st.builds(Group, devices=st.integers(1, 12)),
        st.builds(Group, percent=st.sampled_from([0.5, 1, 3.3, 10, 25, 50])),
        st.builds(Group, filter=st.just("cores >= 4"), devices=st.integers(0, 9)),
        st.builds(Group, filter=st.just("site = a"), percent=st.sampled_from([5, 20])),
    ),
    max_size=6,
).map(lambda firsts: Strategy(groups=(*firsts, Group(name="rest"))))


@st.composite
def fleets(draw: st.DrawFn, most: int = 60) -> list[Member]:
    count = draw(st.integers(0, most))
    found: list[Member] = []
    for number in range(count):
        name = f"d-{number}"
        hardware_class = draw(st.sampled_from(["A", "B", "C", "D", ""]))
        site = draw(st.sampled_from(["a", "b", "c", ""]))
        cores = draw(st.sampled_from([2, 4]))
        labels = {"site": site} if site else {}
        facts = Facts(name, labels, hardware_class=hardware_class, cores=cores)
        found.append(Member(name, hardware_class, site, facts))
    return found


@given(fleets(), groups, st.randoms())
def test_every_device_is_placed_once_whatever_the_order_of_the_input(
    fleet: list[Member], strategy: Strategy, chance: object
) -> None:
    placed = split(fleet, strategy, SALT)
    assert sorted(one.device_id for one in placed) == sorted(one.device_id for one in fleet)
    assert [one.position for one in placed] == list(range(len(fleet)))
    assert all(before.group <= after.group for before, after in pairwise(placed))
    assert all(one.group < len(strategy.groups) for one in placed)
    shuffled = [*fleet]
    chance.shuffle(shuffled)  # type: ignore[attr-defined] - a random.Random
    assert split(shuffled, strategy, SALT) == placed


@given(fleets(), groups)
def test_sizes_are_as_asked_as_long_as_there_are_devices(
    fleet: list[Member], strategy: Strategy
) -> None:
    found = counts(split(fleet, strategy, SALT), len(strategy.groups))
    left = len(fleet)
    for group, size in zip(strategy.groups[:-1], found[:-1], strict=True):
        asked = group.devices or group.percent * len(fleet) / 100
        if not group.filter:
            assert size == min(left, math.ceil(round(asked, 9)))
        elif asked:
            assert size <= math.ceil(round(asked, 9))
        left -= size


@given(fleets(), groups)
def test_a_filter_lets_only_its_own_in(fleet: list[Member], strategy: Strategy) -> None:
    of = {one.device_id: one for one in fleet}
    for one in split(fleet, strategy, SALT):
        wanted, facts = strategy.groups[one.group].filter, of[one.device_id].facts
        assert facts is not None
        assert wanted != "cores >= 4" or facts.cores == 4
        assert wanted != "site = a" or facts.site == "a"


@given(fleets(), groups, st.integers(0, 5))
def test_what_is_cut_after_groups_that_have_started_has_the_sizes_of_one_cut(
    fleet: list[Member], strategy: Strategy, begun: int
) -> None:
    first = min(begun, len(strategy.groups) - 1)
    whole = split(fleet, strategy, "talk@1")
    gone = [place for place in whole if place.group < first]
    names = ids(gone, *range(first))
    rest = [one for one in fleet if one.device_id not in names]
    classes = frozenset(one.hardware_class for one in fleet if one.device_id in names)
    after = split(rest, strategy, "talk@1", Begun(first, len(gone), len(gone), classes))
    # Percentages are of all devices, those that have started too.
    assert after == [place for place in whole if place.group >= first]


def test_a_filter_that_takes_all_takes_all_that_match() -> None:
    fleet = [
        Member(f"d-{number}", "A", "", Facts(f"d-{number}", cores=2 + number % 2 * 2))
        for number in range(20)
    ]
    strategy = Strategy(groups=(Group(devices=3), Group(filter="cores = 4"), Group()))
    placed = split(fleet, strategy, SALT)
    first = ids(placed, 0)
    odd = {f"d-{number}" for number in range(1, 20, 2)}
    assert ids(placed, 1) == odd - first


def test_a_group_with_a_filter_needs_facts() -> None:
    strategy = Strategy(groups=(Group(name="big", devices=1, filter="cores = 4"), Group()))
    with pytest.raises(ValueError, match="group 'big' has a filter, and d-00000 no facts"):
        split(a_fleet(1), strategy, SALT)


@given(fleets(200), st.integers(0, 12), st.integers(0, 40))
def test_every_class_is_in_the_first_two_groups_wherever_sizes_allow(
    fleet: list[Member], first: int, second: int
) -> None:
    strategy = Strategy(groups=(Group(devices=first + 1), Group(devices=second + 1), Group()))
    placed = split(fleet, strategy, SALT)
    of = {one.device_id: one.hardware_class for one in fleet}
    present = {of[name] for name in ids(placed, 0, 1)}
    classes = set(of.values())
    assert len(present) == min(len(classes), sum(counts(placed, 3)[:2]))
    if first + 1 >= len(classes):
        assert {of[name] for name in ids(placed, 0)} == classes


@pytest.mark.parametrize("devices", [100, 1_000, 10_000])
def test_the_ladder_has_every_class_in_its_second_group_or_third(devices: int) -> None:
    fleet = a_fleet(devices)
    placed = split(fleet, LADDER, SALT)
    of = {one.device_id: one.hardware_class for one in fleet}
    early = {of[name] for name in ids(placed, 0, 1)}
    room = sum(counts(placed, 5)[:2])
    assert len(early) == min(4, room)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 200), st.text())
def test_each_class_has_its_share_rounded_down_or_up(held: list[int], size: int, salt: str) -> None:
    fleet = [
        Member(f"d-{number}-{one}", f"class-{number}")
        for number, count in enumerate(held)
        for one in range(count)
    ]
    # Three groups go before it, so that no class goes first.
    before = (Group(devices=1), Group(devices=1))
    placed = split(fleet, Strategy(groups=(*before, Group(devices=size), Group())), salt)
    of = {one.device_id: one.hardware_class for one in fleet}
    left = Counter(of[name] for name in ids(placed, 2, 3))
    found = Counter(of[name] for name in ids(placed, 2))
    size = min(size, left.total())
    for name, count in left.items():
        exact = count * size / left.total()
        assert math.floor(exact) <= found[name] <= math.ceil(exact)


def test_sites_have_their_share_of_each_class() -> None:
    fleet = a_fleet(10_000)
    placed = split(fleet, LADDER, SALT)
    of = {one.device_id: (one.hardware_class, one.site) for one in fleet}
    strata = Counter(of.values())
    tenth = Counter(of[name] for name in ids(placed, 2))
    for stratum, count in strata.items():
        assert abs(tenth[stratum] - count * 0.09) < 3


def test_a_release_always_has_the_same_groups_and_another_has_others() -> None:
    fleet = a_fleet(1_000)
    again, other = split(fleet, LADDER, SALT), split(fleet, LADDER, "qwen3-0.6b@1.4.0")
    assert split(fleet, LADDER, SALT) == again
    common = ids(again, 1, 2) & ids(other, 1, 2)
    assert len(common) < 30  # by chance 10 of 100


# Chi-square that chance exceeds in one of a hundred cases, by degrees of freedom (NIST).
CRITICAL = {9: 21.666, 3: 11.345}


@pytest.mark.parametrize("classes", [1, 3, 10])
def test_no_device_is_always_first_over_100_releases(classes: int) -> None:
    fleet = [
        Member(f"gw-{number}", f"class-{0 if number < 6 else number % classes}", f"s-{number % 3}")
        for number in range(10)
    ]
    firsts = Counter(split(fleet, LADDER, f"talk@1.{one}.0")[0].device_id for one in range(100))
    expected = 100 / len(fleet)
    chi_square = sum((firsts[one.device_id] - expected) ** 2 / expected for one in fleet)
    assert chi_square < CRITICAL[9]


def test_no_class_is_always_first_over_400_releases() -> None:
    fleet = a_fleet(80)
    of = {one.device_id: one.hardware_class for one in fleet}
    held = Counter(of.values())
    firsts = Counter(of[split(fleet, LADDER, f"talk@1.{one}.0")[0].device_id] for one in range(400))
    expected = {name: 400 * count / len(fleet) for name, count in held.items()}
    assert sum((firsts[name] - many) ** 2 / many for name, many in expected.items()) < CRITICAL[3]


def late(count: int, cores: int = 2) -> list[Member]:
    names = [f"late-{number}" for number in range(count)]
    return [Member(name, "A", "", Facts(name, cores=cores)) for name in names]


@pytest.mark.parametrize(
    ("held", "first_open", "count", "expected"),
    [
        # It started with nobody: the first that come are the canary and what follows it.
        ([0, 0, 0, 0, 0], 0, 1, [1, 0, 0, 0, 0]),
        ([0, 0, 0, 0, 0], 0, 10, [1, 1, 1, 4, 3]),
        # The canary and the second run: what comes fills up the third, of 9 % of 120.
        ([1, 1, 9, 40, 49], 2, 20, [1, 1, 11, 48, 59]),
        # Only the last has not started, or all have.
        ([1, 1, 9, 40, 49], 4, 20, [1, 1, 9, 40, 69]),
        ([1, 1, 9, 40, 49], 5, 1, [1, 1, 9, 40, 50]),
    ],
)
def test_late_joiners_fill_groups_that_have_not_started(
    held: list[int], first_open: int, count: int, expected: list[int]
) -> None:
    start = sum(held)
    placed = join(late(count), LADDER, SALT, held=held, first_open=first_open, next_position=start)
    found = [before + more for before, more in zip(held, counts(placed, 5), strict=True)]
    assert found == expected
    assert sorted(one.position for one in placed) == list(range(start, start + count))
    assert sorted(one.device_id for one in placed) == sorted(one.device_id for one in late(count))


def test_a_late_joiner_is_only_where_its_filter_lets_it() -> None:
    strategy = Strategy(groups=(Group(devices=1), Group(filter="cores = 4"), Group()))
    where = {"held": [1, 0, 0], "first_open": 1, "next_position": 1}
    small = join(late(2), strategy, SALT, **where)  # type: ignore[arg-type] - as named
    big = join(late(2, cores=4), strategy, SALT, **where)  # type: ignore[arg-type] - as named
    assert [one.group for one in small] == [2, 2]
    assert [one.group for one in big] == [1, 1]


def test_a_ramp_grows_by_its_factor_and_ends_with_the_rest() -> None:
    made = ramp(1, 2, canary=1)
    assert [group.percent for group in made] == [0, 1, 2, 4, 8, 16, 32, 0]
    assert [group.devices for group in made] == [1, 0, 0, 0, 0, 0, 0, 0]
    names = ["canary", "1 %", "3 %", "7 %", "15 %", "31 %", "63 %", "rest"]
    assert [group.name for group in made] == names
    assert counts(split(a_fleet(1_000), Strategy(groups=made), SALT), 8) == [
        1, 10, 20, 40, 80, 160, 320, 369,
    ]  # fmt: skip


def test_even_groups_are_of_one_size() -> None:
    assert [group.percent for group in even(30)] == [30, 30, 30, 0]
    assert [group.name for group in even(50)] == ["50 %", "rest"]
    assert [group.name for group in even(100)] == ["rest"]


def test_groups_of_a_ramp_are_like_the_one_that_is_given() -> None:
    like = Group(success_percent=95, soak_s=600, gate=Gate(), waits_for_promotion=True)
    for group in ramp(10, 3, like=like):
        assert (group.success_percent, group.soak_s, group.waits_for_promotion) == (95, 600, True)
        assert group.gate == Gate()


@given(st.floats(0.01, 100), st.floats(1.1, 5), st.integers(0, 3))
def test_every_ramp_is_a_possible_strategy(first: float, factor: float, canary: int) -> None:
    try:
        made = ramp(first, factor, canary=canary)
    except RequestError as error:
        assert "at most 100 groups" in error.message  # noqa: PT017 - the other end is below
    else:
        assert msgspec.convert(msgspec.to_builtins(Strategy(groups=made)), Strategy).groups == made


@pytest.mark.parametrize(
    ("first", "factor", "canary", "expected"),
    [
        (0, 2, 0, "a first group of 0.01 to 100 percent, found 0"),
        (101, 2, 0, "a first group of 0.01 to 100 percent, found 101"),
        (math.nan, 2, 0, "a first group of 0.01 to 100 percent, found nan"),
        (1, 1, 0, "a factor of 1.1 to 5, found 1"),
        (1, 5.1, 0, "a factor of 1.1 to 5, found 5.1"),
        (1, 2, -1, "0 or more devices before the first group, found -1"),
    ],
)
def test_a_ramp_out_of_range_is_refused(
    first: float, factor: float, canary: int, expected: str
) -> None:
    with pytest.raises(RequestError, match="ramp: expected") as caught:
        ramp(first, factor, canary=canary)
    assert caught.value.message == f"ramp: expected {expected}"


def test_too_many_even_groups_are_refused() -> None:
    assert len(even(1)) == 100
    with pytest.raises(RequestError, match="at most 100 groups"):
        even(0.5)
