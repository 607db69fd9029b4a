from __future__ import annotations

import pytest
from hypothesis import given
from simulators.any_access import DEVICES, SCOPES
from sprat_controller.access import scopes
from sprat_controller.access.scopes import EVERYTHING
from sprat_controller.errors import RequestError
from sprat_controller.fleet.filters.fields import Facts


@given(SCOPES, SCOPES, DEVICES)
def test_a_narrowed_scope_is_what_is_in_both(one: str, other: str, device: Facts) -> None:
    first, second = scopes.read(one), scopes.read(other)
    both = first.narrowed(second)
    assert both.covers(device) == (first.covers(device) and second.covers(device))
    assert first.contains(both)
    assert second.contains(both)


@given(SCOPES, SCOPES, DEVICES)
def test_a_widened_scope_is_what_is_in_either(one: str, other: str, device: Facts) -> None:
    first, second = scopes.read(one), scopes.read(other)
    either = first.widened(second)
    assert either.covers(device) == (first.covers(device) or second.covers(device))
    assert either.contains(first)
    assert either.contains(second)


@given(SCOPES, SCOPES, DEVICES)
def test_what_a_scope_contains_it_covers(one: str, other: str, device: Facts) -> None:
    outer, inner = scopes.read(one), scopes.read(other)
    if outer.contains(inner):
        assert outer.covers(device) or not inner.covers(device)


@given(SCOPES)
def test_a_scope_is_kept_as_text_and_read_again(text: str) -> None:
    scope = scopes.read(text)
    assert scopes.read(scope.text) == scope
    assert scope.contains(scope)
    assert EVERYTHING.contains(scope)
    assert scope.contains(EVERYTHING) == scope.is_everything == (text == "")


def test_narrowing_twice_is_narrowing_once() -> None:
    lyon = scopes.read("site = lyon")
    twice = lyon.narrowed(scopes.read("label.ring = canary")).narrowed(lyon)
    assert twice.text == "site = lyon and label.ring = canary"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cores >= 4", "cores"),
        ("site = lyon and online", "online"),
        ("not (state = ERROR)", "state"),
        ("has(avx2)", "has(...)"),
        ("site = lyon or hardware_class = pi5", "hardware_class"),
    ],
)
def test_what_a_device_says_of_itself_is_no_scope(text: str, found: str) -> None:
    with pytest.raises(RequestError, match="what people set of a device") as refused:
        scopes.read(text)
    assert refused.value.code == "bad_scope"
    assert found in refused.value.message


def test_what_is_no_filter_is_no_scope() -> None:
    with pytest.raises(RequestError, match="scope: filter, character 6") as refused:
        scopes.read("site lyon")
    assert refused.value.code == "bad_scope"


def test_a_scope_knows_whether_it_asks_for_names() -> None:
    assert scopes.read("site = lyon and not device = gw-1").asks_names
    assert not scopes.read("site = lyon or group = kiosks").asks_names
