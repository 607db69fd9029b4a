"""Many scopes at once say what each of them says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.any_access import DEVICES, SCOPES
from sprat_controller.access import scopes
from sprat_controller.access.covering import Covering
from sprat_controller.fleet.filters.fields import Facts

PLAIN = st.sampled_from(
    [
        "site in (lyon, lima)",
        "site = lima or label.ring = last",
        "label.ring = canary or device = gw-*",
        "group = kiosks or site = lyon",
        "device in (gw-2, pump)",
    ]
)


@given(st.lists(SCOPES | PLAIN, max_size=8), DEVICES)
def test_it_is_the_first_scope_that_covers_the_device(said: list[str], device: Facts) -> None:
    some = [scopes.read(text) for text in said]
    covering = [position for position, scope in enumerate(some) if scope.covers(device)]
    assert Covering(some).first(device) == (covering[0] if covering else None)


@pytest.mark.parametrize("text", ["site = ''", "device = '' or site = ''", "site in ('', '')"])
def test_what_is_not_known_is_in_no_scope(text: str) -> None:
    scope = scopes.read(text)
    for device in (Facts(""), Facts("", {"site": ""})):
        assert not scope.covers(device)
        assert Covering([scope]).first(device) is None


@given(DEVICES)
def test_of_no_scope_none_covers_anything(device: Facts) -> None:
    assert Covering([]).first(device) is None
