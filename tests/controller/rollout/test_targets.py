from __future__ import annotations

from simulators.controlled import BIG, SMALL, World
from sprat_controller.rollout import targets
from sprat_controller.rollout.grouping import Member
from sprat_controller.rollout.requests import Target
from sprat_controller.rollout.strategy import LADDER, Group, Strategy


def grouped(world: World, target: Target, strategy: Strategy) -> list[Member]:
    with world.database.reading() as session:
        return targets.grouped(session, target, strategy)


def test_members_have_their_class_and_site(world: World) -> None:
    world.join("b", BIG, site="lyon", ring="1")
    world.join("a", SMALL, ring="2")
    world.enrol("c", site="oslo")
    world.join("gone")
    world.remove("gone")
    hardware = world.device("a").hardware_class
    assert hardware is not None
    found = grouped(world, Target(), LADDER)
    assert [(one.device_id, one.site, one.facts) for one in found] == [
        ("a", "", None),
        ("b", "lyon", None),
        ("c", "oslo", None),
    ]
    assert (found[0].hardware_class, found[2].hardware_class) == (hardware, "")
    assert grouped(world, Target(filter="label.ring = 1"), LADDER) == [found[1]]


def test_members_have_facts_where_a_group_has_a_filter(world: World) -> None:
    world.join("a", SMALL, site="lyon")
    world.enrol("b")
    strategy = Strategy(groups=(Group(devices=1, filter="site exists"), Group()))
    first, second = grouped(world, Target(), strategy)
    assert first.facts is not None
    assert second.facts is not None
    assert (first.site, first.facts.memory_budget) == ("lyon", SMALL)
    assert (second.site, second.facts.memory_budget) == ("", None)
