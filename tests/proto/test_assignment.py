from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.fit_cases import UNTIMED, policies
from sprat_proto import assignment, canonical, fit
from sprat_proto.assignment import AssignedModel, Assignment, Policy, ServingTerms, Windows
from sprat_proto.policy import FitPolicy
from sprat_proto.windows import WindowSpec

MODEL = AssignedModel(
    alias="assistant",
    publisher="acme",
    model="talk",
    release="1.0.0",
    variant="q4_0",
    digest="a" * 64,
    size=2000,
    execution_id="e-1",
    rollout_id="r-1",
)
GOOD = Assignment(2, "gw-1", 7, "2026-11-23T10:00:00+00:00", [MODEL], Policy())


def altered(**fields: Any) -> bytes:
    return canonical.encode({**msgspec.to_builtins(GOOD), **fields})


def test_an_assignment_comes_back_as_it_was() -> None:
    assert assignment.decode(assignment.encode(GOOD)) == GOOD
    empty = msgspec.structs.replace(GOOD, models=[])
    assert assignment.decode(assignment.encode(empty)) == empty


@pytest.mark.parametrize(
    "data",
    [
        b"",
        altered(schema=1),
        altered(version=0),
        altered(version=1 << 60),
        altered(device_id="../x"),
        altered(command="reboot"),
        altered(policy={"context": 1}),
        altered(policy={"context": 2048, "shell": True}),
        altered(models=[{**msgspec.to_builtins(MODEL), "digest": "a"}]),
        altered(models=[{**msgspec.to_builtins(MODEL), "alias": "A B"}]),
        altered(models=[{}]),
        assignment.encode(GOOD) + b" ",
    ],
)
def test_what_is_no_assignment_is_refused(data: bytes) -> None:
    with pytest.raises(canonical.NotCanonicalError, match="assignment"):
        assignment.decode(data)


def test_an_assignment_is_the_custom_field_of_its_targets() -> None:
    assert assignment.from_custom(assignment.to_custom(GOOD)) == GOOD
    for wrong in (None, {}, {**assignment.to_custom(GOOD), "command": "reboot"}):
        with pytest.raises(canonical.NotCanonicalError, match="assignment"):
            assignment.from_custom(wrong)


def test_a_model_names_its_manifest_in_both_repositories() -> None:
    assert MODEL.path == "m/acme/talk/1.0.0+q4_0.json"
    assert MODEL.name == "talk@1.0.0+q4_0"


def served(**terms: Any) -> Assignment:
    said = assignment.spelled(ServingTerms(**terms))
    return msgspec.structs.replace(GOOD, models=[msgspec.structs.replace(MODEL, serving=said)])


def test_what_is_left_to_the_device_is_spelled_as_before_there_were_terms() -> None:
    assert served() == GOOD
    assert b"serving" not in assignment.encode(GOOD)
    assert "serving" not in str(assignment.to_custom(GOOD))
    assert MODEL.terms == assignment.AS_DEVICE_DECIDES


@given(
    slots=st.integers(0, fit.MAX_SLOTS),
    kv_type=st.sampled_from(sorted(fit.KV_BLOCKS)),
    is_pinned=st.booleans(),
)
def test_terms_come_back_as_they_were(slots: int, kv_type: str, *, is_pinned: bool) -> None:
    made = served(slots=slots, kv_type=kv_type, is_pinned=is_pinned)
    for read in (
        assignment.decode(assignment.encode(made)),
        assignment.from_custom(assignment.to_custom(made)),
    ):
        (model,) = read.models
        terms = model.terms
        assert (terms.slots, terms.kv_type, terms.is_pinned) == (slots, kv_type, is_pinned)


@pytest.mark.parametrize(
    "serving",
    [
        {"slots": -1},
        {"slots": fit.MAX_SLOTS + 1},
        {"kv_type": "q2"},
        {"is_pinned": 1},
        {"threads": 2},
        {"slots": 0},  # the same as nothing: one spelling of each
        None,
    ],
)
def test_what_is_no_term_is_refused(serving: Any) -> None:
    data = altered(models=[{**msgspec.to_builtins(MODEL), "serving": serving}])
    with pytest.raises(canonical.NotCanonicalError, match="assignment"):
        assignment.decode(data)


@UNTIMED
@given(policies())
def test_a_policy_comes_back_as_it_was(asked: FitPolicy) -> None:
    said = assignment.spelled_policy(asked)
    made = msgspec.structs.replace(GOOD, models=[msgspec.structs.replace(MODEL, policy=said)])
    for read in (
        assignment.decode(assignment.encode(made)),
        assignment.from_custom(assignment.to_custom(made)),
    ):
        assert read.models[0].fit_policy == asked


def test_the_release_s_own_policy_is_not_spelled_and_one_that_asks_nothing_is() -> None:
    assert MODEL.fit_policy is None
    assert msgspec.structs.replace(MODEL, policy=assignment.spelled_policy(None)) == MODEL
    lifted = msgspec.structs.replace(MODEL, policy=assignment.spelled_policy(FitPolicy()))
    assert b'"policy":{}' in assignment.encode(msgspec.structs.replace(GOOD, models=[lifted]))


def within(windows: Windows) -> Assignment:
    said = assignment.spelled_windows(windows)
    return msgspec.structs.replace(GOOD, models=[msgspec.structs.replace(MODEL, windows=said)])


def test_what_may_begin_at_any_time_is_spelled_as_before_there_were_windows() -> None:
    assert within(Windows()) == GOOD
    assert b"windows" not in assignment.encode(GOOD)
    assert MODEL.times == assignment.AT_ANY_TIME


SPECS = st.none() | st.builds(
    WindowSpec,
    cron=st.sampled_from(["0 2 * * *", "*/15 0-5 L * 2#1"]),
    duration_s=st.integers(60, 7 * 86_400),
    zone=st.sampled_from(["UTC", "Europe/Paris"]),
)
MOMENTS = st.integers(0, 1 << 40)


@given(
    st.builds(
        Windows,
        download=SPECS,
        activate=SPECS,
        not_before=MOMENTS,
        deadline=MOMENTS,
        override=st.booleans(),
        is_way_back=st.booleans(),
    )
)
def test_windows_come_back_as_they_were(windows: Windows) -> None:
    made = within(windows)
    for read in (
        assignment.decode(assignment.encode(made)),
        assignment.from_custom(assignment.to_custom(made)),
    ):
        assert read.models[0].times == windows


@pytest.mark.parametrize(
    "windows",
    [
        {"download": {"cron": "0 2 * * *", "duration_s": 59, "zone": "UTC"}},
        {"activate": {"cron": "", "duration_s": 60, "zone": "UTC"}},
        {"activate": {"cron": "0 2 * * *", "duration_s": 60}},  # in which zone?
        {"not_before": -1},
        {"deadline": "soon"},
        {"override": 1},
        {"override": False},
        {"probe": {}},
        None,
    ],
)
def test_what_is_no_window_is_refused(windows: Any) -> None:
    data = altered(models=[{**msgspec.to_builtins(MODEL), "windows": windows}])
    with pytest.raises(canonical.NotCanonicalError, match="assignment"):
        assignment.decode(data)


@given(at=st.integers(0, len(assignment.encode(GOOD)) - 1), byte=st.integers(0, 255))
def test_a_mutant_is_refused_or_another_assignment(at: int, byte: int) -> None:
    data = assignment.encode(GOOD)
    mutant = data[:at] + bytes([byte]) + data[at + 1 :]
    try:
        read = assignment.decode(mutant)
    except canonical.NotCanonicalError:
        return
    assert assignment.encode(read) == mutant
