from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.any_access import BINDINGS, DEVICES, PERMISSIONS, ROLE_NAMES, ROLES, SCOPES
from sprat_controller.access import scopes
from sprat_controller.access.actor import Actor, Cap, SubjectKind, subject_of
from sprat_controller.access.policy import GRANTS, Binding, Permission, Policy, Role
from sprat_controller.errors import DeniedError
from sprat_controller.fleet.filters.fields import Facts

ANN = subject_of(SubjectKind.USER, "ann")
LYON = scopes.read("site = lyon")
CAPS = st.builds(Cap, ROLE_NAMES, SCOPES.map(scopes.read))


def an_actor(*bindings: tuple[str, str], cap: Cap | None = None) -> Actor:
    policy = Policy(Binding(ANN, role, scope) for role, scope in bindings)
    return Actor(ANN, policy, session="t-1", cap=cap)


def test_a_subject_is_called_by_its_kind_and_name() -> None:
    actor = an_actor()
    assert (actor.name, actor.audit_name) == ("ann", "user:ann")


def test_a_token_takes_away_and_never_gives() -> None:
    actor = an_actor(("viewer", ""), cap=Cap("admin"))
    assert actor.held(Permission.READ_FLEET) is not None
    assert actor.held(Permission.ROLL_OUT) is None
    actor = an_actor(("admin", ""), cap=Cap("viewer", LYON))
    assert actor.scope(Permission.READ_FLEET).text == "site = lyon"
    refused = actor.decide(Permission.ROLL_OUT)
    assert refused.reason == (
        "the token t-1 of user:ann is only viewer over site = lyon, which does not allow"
        " rollouts:change"
    )
    lima = actor.decide(Permission.READ_FLEET, Facts("b", {"site": "lima"}))
    assert lima.reason.endswith("which does not cover the device b")


def test_a_token_over_some_devices_changes_nothing_for_all() -> None:
    actor = an_actor(("admin", ""), cap=Cap("admin", LYON))
    assert actor.held(Permission.MANAGE_USERS) is None
    assert not actor.decide(Permission.MANAGE_USERS).allowed
    assert actor.scope(Permission.READ_MODELS).is_everything


def test_what_is_not_held_is_refused_in_a_sentence() -> None:
    with pytest.raises(DeniedError, match="ask for the role operator or admin") as refused:
        an_actor(("viewer", "")).scope(Permission.ROLL_OUT)
    assert refused.value.code == "not_allowed"


@given(st.tuples(BINDINGS, ROLES), CAPS, PERMISSIONS, DEVICES)
def test_a_token_is_the_meet_of_what_it_says_and_what_its_owner_has(
    granted: tuple[list[Binding], dict[str, frozenset[Permission]]],
    cap: Cap,
    permission: Permission,
    device: Facts,
) -> None:
    bindings, roles = granted
    policy = Policy(bindings, roles)
    own = Policy([Binding(ANN, cap.role, cap.scope.text)], roles)
    actor = Actor(ANN, policy, cap=cap)
    for asked in (device, None):
        decided = actor.decide(permission, asked)
        both = (one.decide(ANN, permission, asked).allowed for one in (policy, own))
        assert decided.allowed == all(both)
    held = actor.held(permission)
    assert (held is not None) == actor.decide(permission).allowed
    covers = held is not None and held.covers(device)
    assert covers == actor.decide(permission, device).allowed


@given(
    st.builds(Policy, BINDINGS, ROLES),
    st.none() | CAPS,
    st.tuples(ROLE_NAMES, SCOPES),
    DEVICES,
)
def test_nobody_gives_what_they_do_not_hold(
    policy: Policy, cap: Cap | None, asked: tuple[str, str], device: Facts
) -> None:
    actor = Actor(ANN, policy, cap=cap)
    role, scope = asked
    permissions = policy.permissions_of(role)
    try:
        given_on = actor.grantable(permissions, scopes.read(scope))
    except DeniedError:
        lacking = [one for one in permissions if not actor.decide(one).allowed]
        assert lacking
        return
    assert scopes.read(scope).contains(given_on)
    new = Policy([Binding("user:new", role, given_on.text)], {role: permissions})
    for permission in Permission:
        for about in (device, None):
            if new.decide("user:new", permission, about).allowed:
                assert actor.decide(permission, about).allowed


def test_what_is_given_on_stays_within_what_is_held() -> None:
    granter = an_actor(("operator", "site = lyon"), ("auditor", ""))
    asked = scopes.read("label.ring = canary")
    given_on = granter.grantable(GRANTS[Role.OPERATOR], asked)
    assert given_on.text == "label.ring = canary and site = lyon"
    with pytest.raises(DeniedError, match="does not hold channels:change"):
        granter.grantable(GRANTS[Role.PUBLISHER], scopes.EVERYTHING)
