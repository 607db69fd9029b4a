from __future__ import annotations

from sprat_controller.access.policy import GRANTS, Actor, Permission, Role, allowed, roles_with


def test_every_role_has_a_row_and_every_permission_a_holder() -> None:
    assert set(GRANTS) == set(Role)
    assert all(roles_with(permission) for permission in Permission)


def test_only_an_administrator_makes_tokens_and_publishes_metadata() -> None:
    for permission in (Permission.MANAGE_TOKENS, Permission.MANAGE_TRUST):
        assert roles_with(permission) == [Role.ADMIN]


def test_nobody_but_an_administrator_both_publishes_and_rolls_out() -> None:
    both = [
        role
        for role in Role
        if allowed(Actor("a", role), Permission.PUBLISH)
        and allowed(Actor("a", role), Permission.ROLL_OUT)
    ]
    assert both == [Role.ADMIN]


def test_whoever_publishes_says_which_channel_a_release_is_in() -> None:
    assert roles_with(Permission.CHANGE_CHANNELS) == roles_with(Permission.PUBLISH)


def test_an_approver_approves_and_changes_nothing_else() -> None:
    changing = {one for one in GRANTS[Role.APPROVER] if not one.value.endswith(":read")}
    assert changing == {Permission.APPROVE}


def test_a_viewer_changes_nothing() -> None:
    assert {permission.value.split(":")[1] for permission in GRANTS[Role.VIEWER]} == {"read"}


def test_the_audit_log_calls_an_actor_by_its_token() -> None:
    assert Actor("ci", Role.PUBLISHER).audit_name == "token:ci"


def test_only_an_administrator_overrides_windows_and_budgets() -> None:
    assert roles_with(Permission.OVERRIDE) == [Role.ADMIN]
