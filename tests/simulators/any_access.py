"""Bindings, scopes and devices as Hypothesis makes them up: few names, so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st
from sprat_controller.access.policy import Binding, Permission, Role
from sprat_controller.fleet.filters.fields import Facts

SUBJECTS = ("user:ann", "user:bob", "service:ci")
OWN_ROLES = ("night-shift", "release-manager")
SITES = ("lyon", "lima")

TESTS = st.sampled_from(
    [
        *(f"site = {site}" for site in SITES),
        "site != lyon",
        "label.ring = canary",
        "label.ring exists",
        "group = kiosks",
        "device = gw-*",
        "device = gw-1",
    ]
)
FILTERS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        inner.map(lambda one: f"not ({one})"),
        st.lists(inner, min_size=2, max_size=3).map(
            lambda some: " and ".join(f"({one})" for one in some)
        ),
        st.lists(inner, min_size=2, max_size=3).map(
            lambda some: " or ".join(f"({one})" for one in some)
        ),
    ),
    max_leaves=4,
)
SCOPES = st.just("") | FILTERS
DEVICES = st.builds(
    Facts,
    device=st.sampled_from(["gw-1", "gw-2", "pump"]),
    labels=st.fixed_dictionaries(
        {}, optional={"site": st.sampled_from(SITES), "ring": st.sampled_from(["canary", "last"])}
    ),
    group=st.sampled_from(["kiosks", "default"]),
)
ROLE_NAMES = st.sampled_from([*(role.value for role in Role), *OWN_ROLES, "unknown"])
ROLES = st.dictionaries(
    st.sampled_from(OWN_ROLES), st.frozensets(st.sampled_from(Permission), max_size=4)
)
BINDINGS = st.lists(st.builds(Binding, st.sampled_from(SUBJECTS), ROLE_NAMES, SCOPES), max_size=6)
PERMISSIONS = st.sampled_from(Permission)
