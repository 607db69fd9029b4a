from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout import fleet_file
from sprat_controller.rollout.fleet_file import (
    Begin,
    Change,
    FleetFile,
    FleetFileError,
    Relabel,
    RolloutSaid,
    Sign,
    Standing,
    Start,
    Stop,
)
from sprat_controller.rollout.strategy import LADDER
from sprat_proto.states import RolloutState

SAID = RolloutSaid("assistant", "talk@1.0.0", labels={"site": "lyon"})
NEWEST = {"talk@stable": "1.0.0"}
BRINGS = fleet_file.brought(SAID, "here", NEWEST)
RUNNING = Standing("r-1", "fleet:lyon", RolloutState.RUNNING, BRINGS)


def a_file(devices: Mapping[str, dict[str, str]] | None = None, **rollouts: Any) -> FleetFile:
    return FleetFile(1, rollouts, dict(devices or {}))


def changes(
    file: FleetFile,
    *standing: Standing,
    labels: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Change]:
    return fleet_file.diff(file, standing, labels or {}, NEWEST)


def test_what_is_not_there_is_added_with_all_that_it_says() -> None:
    (change,) = changes(a_file(lyon=SAID))
    assert (change.sign, change.what) == (Sign.ADD, "rollout lyon")
    assert "release: talk@1.0.0" in change.lines
    assert "target: site=lyon" in change.lines
    assert change.deeds == (Start("fleet:lyon", BRINGS),)


def test_what_stands_as_the_file_says_is_no_change() -> None:
    for state in (RolloutState.RUNNING, RolloutState.FINISHED, RolloutState.PAUSED):
        assert changes(a_file(lyon=SAID), replace(RUNNING, state=state)) == []
    assert not fleet_file.would_change([])


def test_what_differs_is_told_and_rolled_out_anew() -> None:
    newer = msgspec.structs.replace(SAID, release="talk@1.1.0", strategy=LADDER)
    (change,) = changes(a_file(lyon=newer), RUNNING)
    assert change.sign is Sign.CHANGE
    assert change.lines[0] == "release: talk@1.0.0 -> talk@1.1.0"
    assert change.lines[1].startswith("strategy: all at once -> groups canary: 1 device,")
    stop, start = change.deeds
    assert stop == Stop("r-1")
    assert isinstance(start, Start)
    assert start.brings.strategy == LADDER
    over = replace(RUNNING, state=RolloutState.FINISHED)
    assert [type(one) for one in changes(a_file(lyon=newer), over)[0].deeds] == [Start]


def test_a_channel_is_the_release_that_it_stands_for() -> None:
    said = msgspec.structs.replace(SAID, release="", channel="talk@stable")
    assert fleet_file.channels(a_file(lyon=said)) == ["talk@stable"]
    assert changes(a_file(lyon=said), RUNNING) == []
    for wrong in ("talk", "talk@", "a@b@c", "talk@Not One"):
        with pytest.raises(FleetFileError, match=r"rollouts\.x\.channel: expected MODEL@CHANNEL"):
            fleet_file.channels(a_file(x=msgspec.structs.replace(said, channel=wrong)))


def test_what_the_file_names_no_more_is_stopped_while_it_goes_on() -> None:
    (change,) = changes(a_file(), RUNNING)
    assert (change.sign, change.deeds) == (Sign.REMOVE, (Stop("r-1"),))
    assert change.lines == ("talk@1.0.0 as assistant to site=lyon",)
    assert changes(a_file(), replace(RUNNING, state=RolloutState.FINISHED)) == []
    by_hand = replace(RUNNING, name="talk@1.0.0")
    assert changes(a_file(), by_hand) == []


@pytest.mark.parametrize(
    "state", [RolloutState.STOPPED, RolloutState.ROLLED_BACK, RolloutState.APPROVAL_DENIED]
)
def test_what_was_taken_back_is_never_started_again_by_the_same_file(state: RolloutState) -> None:
    taken = replace(RUNNING, state=state)
    (note,) = changes(a_file(lyon=SAID), taken)
    assert (note.sign, note.deeds) == (Sign.NOTE, ())
    assert not fleet_file.would_change([note])
    other = msgspec.structs.replace(SAID, release="talk@1.0.1")
    assert fleet_file.would_change(changes(a_file(lyon=other), taken))


def test_what_was_created_and_not_started_is_started() -> None:
    ready = replace(RUNNING, state=RolloutState.READY)
    assert changes(a_file(lyon=SAID), ready)[0].deeds == (Begin("r-1"),)


def test_labels_are_compared_key_by_key() -> None:
    file = a_file({"gw-1": {"site": "lyon", "ring": "canary"}, "gw-2": {}, "gw-9": {"a": "b"}})
    has = {"gw-1": {"site": "oslo", "old": "yes"}, "gw-2": {}, "gw-3": {"x": "y"}}
    changed, note = changes(file, labels=has)
    assert changed.lines == ("+ ring=canary", "- old=yes", "~ site=oslo -> lyon")
    assert changed.deeds == (Relabel("gw-1", {"site": "lyon", "ring": "canary"}),)
    assert (note.sign, note.what) == (Sign.NOTE, "device gw-9")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"release": "talk"}, "rollouts.x.release: expected MODEL@RELEASE"),
        ({"release": ""}, "rollouts.x: expected a release or a channel, found neither"),
        ({"channel": "talk@stable"}, "expected a release or a channel, found both"),
        ({"release": "", "channel": "talk@beta"}, "expected a release in talk@beta, found none"),
        ({"filter": "site ="}, "rollouts.x: filter, character 7: expected"),
        ({"alias": "Not One"}, "rollouts.x.alias: expected a name"),
        ({"context": 1}, "rollouts.x: context: expected 64 to"),
        ({"kv_type": "q2"}, "rollouts.x: kv_type"),
        ({"policy": fleet_file.PolicySaid(min_decode_tps=-1)}, "policy.min_decode_tps"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(said: dict[str, Any], sentence: str) -> None:
    wrong = msgspec.structs.replace(SAID, **said)
    with pytest.raises(FleetFileError, match=sentence):
        changes(a_file(x=wrong))


def test_two_rollouts_that_would_fight_for_ever_are_refused() -> None:
    with pytest.raises(FleetFileError, match=r"another alias or target than rollouts\.a has"):
        changes(a_file(a=SAID, b=msgspec.structs.replace(SAID, release="talk@2.0.0")))


names = st.sampled_from(("a", "b", "c"))
said = st.builds(
    RolloutSaid,
    st.just("assistant"),
    st.sampled_from(("talk@1.0.0", "talk@1.1.0")),
    labels=st.fixed_dictionaries({"site": names}),
    strategy=st.none() | st.just(LADDER),
)
files = st.builds(
    FleetFile,
    st.just(1),
    st.dictionaries(names, said, max_size=3),
    st.dictionaries(names, st.dictionaries(names, names, max_size=2), max_size=3),
)


def carried_out(
    standing: Sequence[Standing], labels: Mapping[str, Mapping[str, str]], found: list[Change]
) -> tuple[list[Standing], dict[str, Mapping[str, str]]]:
    """Return the rollouts, newest first, and the labels after all deeds."""
    rollouts, tagged = [*standing], dict(labels)
    for deed in (deed for change in found for deed in change.deeds):
        match deed:
            case Start(name, brings):
                made = Standing(f"r-{len(rollouts)}", name, RolloutState.RUNNING, brings)
                rollouts.insert(0, made)
            case Begin(one):
                rollouts = _in_state(rollouts, one, RolloutState.RUNNING)
            case Stop(one):
                rollouts = _in_state(rollouts, one, RolloutState.STOPPED)
            case Relabel(device, wanted):
                tagged[device] = wanted
    return rollouts, tagged


def _in_state(rollouts: list[Standing], one: str, state: RolloutState) -> list[Standing]:
    return [replace(each, state=state) if each.id == one else each for each in rollouts]


@given(st.lists(st.tuples(files, st.sampled_from(RolloutState)), min_size=1, max_size=4))
def test_a_file_that_was_applied_changes_nothing_more(
    story: list[tuple[FleetFile, RolloutState]],
) -> None:
    standing: list[Standing] = []
    labels: dict[str, Mapping[str, str]] = {"a": {}, "b": {"a": "b"}}
    for file, becomes in story:
        try:
            found = fleet_file.diff(file, standing, labels, NEWEST)
        except FleetFileError:
            continue
        standing, labels = carried_out(standing, labels, found)
        again = fleet_file.diff(file, standing, labels, NEWEST)
        assert not fleet_file.would_change(again), again
        # Whatever becomes of it before the next file.
        standing = [replace(one, state=becomes) for one in standing[:1]] + standing[1:]
