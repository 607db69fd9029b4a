from __future__ import annotations

import pytest
from hypothesis import given
from simulators.any_access import BINDINGS, DEVICES, PERMISSIONS, ROLES, SUBJECTS
from sprat_controller.access import scopes
from sprat_controller.access.policy import (
    ABOUT,
    GRANTS,
    About,
    Binding,
    Permission,
    Policy,
    Role,
    roles_with,
)
from sprat_controller.fleet.filters.fields import Facts

LYON, LIMA = Facts("a", {"site": "lyon"}), Facts("b", {"site": "lima"})


def test_every_role_has_a_row_and_every_permission_a_holder() -> None:
    assert set(GRANTS) == set(Role)
    assert set(ABOUT) == set(Permission)
    assert all(roles_with(permission) for permission in Permission)


def test_only_an_administrator_changes_who_may_do_what() -> None:
    for permission in (
        Permission.MANAGE_USERS,
        Permission.MANAGE_ROLES,
        Permission.MANAGE_TOKENS,
        Permission.MANAGE_TRUST,
    ):
        assert roles_with(permission) == [Role.ADMIN]


def test_nobody_but_an_administrator_both_publishes_and_rolls_out() -> None:
    both = {role for role, held in GRANTS.items() if Permission.PUBLISH in held}
    assert both & {role for role, held in GRANTS.items() if Permission.ROLL_OUT in held} == {
        Role.ADMIN
    }


def test_whoever_publishes_says_which_channel_a_release_is_in() -> None:
    assert roles_with(Permission.CHANGE_CHANNELS) == roles_with(Permission.PUBLISH)


def test_an_approver_approves_and_changes_nothing_else() -> None:
    changing = {one for one in GRANTS[Role.APPROVER] if not one.value.endswith(":read")}
    assert changing == {Permission.APPROVE}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AUDITOR])
def test_who_only_looks_changes_nothing(role: Role) -> None:
    assert {permission.value.split(":")[1] for permission in GRANTS[role]} == {"read"}


def test_the_audit_log_is_not_for_every_viewer() -> None:
    assert Permission.READ_AUDIT not in GRANTS[Role.VIEWER]
    assert Permission.READ_AUDIT in GRANTS[Role.AUDITOR]


def test_only_an_administrator_overrides_windows_and_budgets() -> None:
    assert roles_with(Permission.OVERRIDE) == [Role.ADMIN]
    assert roles_with(Permission.BREAK_GLASS) == [Role.ADMIN]


@pytest.mark.parametrize("permission", Permission)
def test_whoever_was_given_nothing_may_do_nothing(permission: Permission) -> None:
    policy = Policy([Binding("user:ann", "admin")])
    for device in (None, LYON):
        decision = policy.decide("user:eve", permission, device)
        assert not decision.allowed
        assert decision.rule is None
        assert decision.reason.startswith("user:eve is nothing, which does not allow")
    assert policy.scope("user:eve", permission) is None


def test_a_scope_keeps_a_role_to_its_devices() -> None:
    policy = Policy([Binding("user:ann", "operator", "site = lyon")])
    decision = policy.decide("user:ann", Permission.ROLL_OUT, LYON)
    assert decision.allowed
    assert decision.rule == Binding("user:ann", "operator", "site = lyon")
    assert decision.reason == "user:ann is operator over site = lyon"
    refused = policy.decide("user:ann", Permission.ROLL_OUT, LIMA)
    assert not refused.allowed
    assert (
        refused.reason == "user:ann is operator over site = lyon, which does not cover the device b"
    )
    scope = policy.scope("user:ann", Permission.ROLL_OUT)
    assert scope is not None
    assert scope.text == "site = lyon"


def test_a_refusal_is_one_sentence_however_much_somebody_has() -> None:
    few, many = (
        Policy([Binding("user:ann", "viewer", f"site = s{number}") for number in range(count)])
        for count in (10, 1000)
    )
    refused = few.decide("user:ann", Permission.READ_FLEET, LYON).reason
    assert "more" not in refused
    assert "viewer over site = s9, which does not cover the device a" in refused
    refused = many.decide("user:ann", Permission.READ_FLEET, LYON).reason
    assert refused.startswith("user:ann is viewer over site = s0 and viewer over site = s1 and ")
    assert refused.endswith("s9 and 990 more, which does not cover the device a")


def test_roles_over_several_scopes_add_up() -> None:
    policy = Policy(
        [
            Binding("user:ann", "operator", "site = lyon"),
            Binding("user:ann", "viewer", "site = lima"),
        ]
    )
    sees, touches = (
        policy.scope("user:ann", one) for one in (Permission.READ_FLEET, Permission.CHANGE_FLEET)
    )
    assert sees is not None
    assert touches is not None
    assert (sees.text, touches.text) == ("site = lyon or site = lima", "site = lyon")


def test_an_administrator_of_some_devices_changes_nothing_for_all() -> None:
    policy = Policy([Binding("user:ann", "admin", "site = lyon")])
    for permission, about in ABOUT.items():
        allowed = policy.decide("user:ann", permission).allowed
        assert allowed == (about is not About.FLEET), permission
    models = policy.scope("user:ann", Permission.READ_MODELS)
    assert models is not None
    assert models.is_everything


def test_a_role_of_ones_own_does_not_stand_for_one_that_is_there() -> None:
    policy = Policy(
        [Binding("user:ann", "viewer"), Binding("user:bob", "night")],
        {"viewer": frozenset(Permission), "night": frozenset({Permission.ROLL_OUT})},
    )
    assert not policy.decide("user:ann", Permission.ROLL_OUT).allowed
    assert policy.decide("user:bob", Permission.ROLL_OUT).allowed
    assert not policy.decide("user:bob", Permission.READ_FLEET).allowed


def naive(
    bindings: list[Binding],
    roles: dict[str, frozenset[Permission]],
    subject: str,
    permission: Permission,
    device: Facts | None,
) -> bool:
    """Decide as the rules are told, with nothing kept and nothing put together."""
    for binding in bindings:
        granted = GRANTS.get(binding.role, roles.get(binding.role, frozenset()))
        if binding.subject != subject or permission not in granted:
            continue
        about = ABOUT[permission]
        if about is About.FLEET and binding.scope == "":
            return True
        if about is About.SHARED:
            return True
        if about is About.DEVICES and (device is None or scopes.read(binding.scope).covers(device)):
            return True
    return False


@given(BINDINGS, ROLES, PERMISSIONS, DEVICES)
def test_a_decision_is_what_the_rules_say(
    bindings: list[Binding],
    roles: dict[str, frozenset[Permission]],
    permission: Permission,
    device: Facts,
) -> None:
    policy = Policy(bindings, roles)
    for subject in SUBJECTS:
        for asked in (device, None):
            decision = policy.decide(subject, permission, asked)
            assert decision.allowed == naive(bindings, roles, subject, permission, asked)
            assert (decision.rule in bindings) == decision.allowed
            assert decision.reason
        scope = policy.scope(subject, permission)
        assert (scope is not None) == policy.decide(subject, permission).allowed
        covers = scope is not None and scope.covers(device)
        assert covers == policy.decide(subject, permission, device).allowed


@given(BINDINGS, BINDINGS, ROLES, PERMISSIONS, DEVICES)
def test_a_binding_more_never_takes_anything_away(
    bindings: list[Binding],
    more: list[Binding],
    roles: dict[str, frozenset[Permission]],
    permission: Permission,
    device: Facts,
) -> None:
    before, after = Policy(bindings, roles), Policy([*more, *bindings], roles)
    for subject in SUBJECTS:
        if before.decide(subject, permission, device).allowed:
            assert after.decide(subject, permission, device).allowed
        narrow, wide = before.scope(subject, permission), after.scope(subject, permission)
        if narrow is not None:
            assert wide is not None
            assert wide.contains(narrow)


@given(BINDINGS, ROLES, PERMISSIONS, DEVICES)
def test_the_order_of_bindings_changes_nothing(
    bindings: list[Binding],
    roles: dict[str, frozenset[Permission]],
    permission: Permission,
    device: Facts,
) -> None:
    forth, back = Policy(bindings, roles), Policy(bindings[::-1], roles)
    for subject in SUBJECTS:
        one, other = (policy.decide(subject, permission, device) for policy in (forth, back))
        assert one.allowed == other.allowed
