"""Groups give what a rule says, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.access.oidc.mapping import Given, Rule, groups_in, name_in, roles_of

ADMIN, LYON = Given("admin"), Given("operator", "site = lyon")
RULES = (Rule("fleet-admins", ADMIN), Rule("lyon", LYON), Rule("also-lyon", LYON))


def test_groups_give_what_their_rules_say_each_once() -> None:
    assert roles_of(["lyon", "also-lyon", "chess"], RULES) == (LYON,)
    assert roles_of(["fleet-admins", "lyon"], RULES) == (ADMIN, LYON)


@pytest.mark.parametrize("group", ["", "Lyon", "lyon ", "lyo", "fleet-admins,lyon", "*", "/lyon"])
def test_a_group_that_no_rule_names_gives_nothing(group: str) -> None:
    assert roles_of([group], RULES) == ()


@given(st.lists(st.text(max_size=8)), st.lists(st.text(max_size=8), max_size=4))
def test_nobody_has_what_no_rule_of_their_groups_gives(groups: list[str], named: list[str]) -> None:
    rules = [Rule(name, Given(f"role-{number}")) for number, name in enumerate(named)]
    found = roles_of(groups, rules)
    assert set(found) == {rule.given for rule in rules if rule.group in groups}
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("claims", "name", "groups"),
    [
        ({"groups": ["a", "b"]}, "groups", ("a", "b")),
        ({"groups": "a"}, "groups", ("a",)),
        ({"groups": []}, "groups", ()),
        ({"groups": ["a", 7, None, ["b"]]}, "groups", ("a",)),
        ({"groups": {"a": True}}, "groups", ()),
        ({"groups": None}, "groups", None),
        ({}, "groups", None),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", ("a",)),
        ({"a.b": ["x"], "a": {"b": ["y"]}}, "a.b", ("x",)),
        ({"https://works.example/groups": ["a"]}, "https://works.example/groups", ("a",)),
        ({"realm_access": ["roles"]}, "realm_access.roles", None),
    ],
)
def test_groups_are_where_the_claims_name_says(
    claims: dict[str, Any], name: str, groups: tuple[str, ...] | None
) -> None:
    assert groups_in(claims, name) == groups


@pytest.mark.parametrize("found", [7, None, "a\nb", "a\u202eb", {"x": 1}])
def test_a_name_that_cannot_be_shown_is_left_out(found: object) -> None:
    assert not name_in({"preferred_username": found}, "preferred_username")


def test_a_name_is_cut() -> None:
    assert name_in({"n": "Ann " * 100}, "n") == ("Ann " * 32).strip()
