"""Fleets, bindings and rollouts as Hypothesis makes them up: everybody sees and touches their own.

A small model says what that is: it knows roles, scopes and devices as values, and nothing of SQL.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from simulators.api_fleet import enrol, publish, run
from simulators.http_world import Client, HttpWorld, error_of
from simulators.signing_desk import Desk
from sprat_controller.access.actor import SubjectKind
from sprat_controller.api.app import make_app
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.fleet.ca import Root
from sprat_controller.store.session import Database, sqlite_url

V1: Final = "/api/v1"
WHAT: Final[dict[str, Any]] = {"model": "talk", "release": "1.0.0", "alias": "assistant"}
NIGHTLY: Final = {"model": "talk", "channel": "stable", "alias": "assistant", "cron": "0 2 * * *"}
SITES, RINGS, GROUPS = ("lyon", "lima"), ("canary", "last"), ("default", "kiosks")

# Which roles may do what, as docs/access.md has it.
SEE: Final = frozenset({"viewer", "operator", "approver", "auditor", "admin"})
READ_AUDIT: Final = SEE - {"viewer"}
CHANGE: Final = frozenset({"operator", "admin"})


@dataclass
class Thing:
    """A device as people set it."""

    name: str
    group: str
    labels: Mapping[str, str]


Test: TypeAlias = Callable[[Thing], bool]


@dataclass(frozen=True)
class Where:
    """A scope: its words, and what they mean."""

    text: str
    holds: Test

    def __repr__(self) -> str:
        return self.text


def labelled(word: str, key: str, values: Sequence[str], how: str) -> Where:
    """Return a test of a label: is one of these, or is none of them."""
    is_one = how in ("=", "in")
    said = f"({', '.join(values)})" if "in" in how else values[0]
    among = set(values) if "in" in how else {values[0]}
    return Where(f"{word} {how} {said}", lambda it: (it.labels.get(key) in among) == is_one)


def grouped(name: str, how: str) -> Where:
    """Return a test of the group."""
    return Where(f"group {how} {name}", lambda it: (it.group == name) == (how == "="))


def both(one: Where, other: Where) -> Where:
    return Where(f"({one}) and ({other})", lambda it: one.holds(it) and other.holds(it))


def either(one: Where, other: Where) -> Where:
    return Where(f"({one}) or ({other})", lambda it: one.holds(it) or other.holds(it))


def neither(one: Where) -> Where:
    return Where(f"not ({one})", lambda it: not one.holds(it))


SOME_SITES = st.sampled_from([["lyon"], ["lima"], ["lyon", "lima"], ["lima", "rome"]])
SOME_RINGS = st.sampled_from([["canary"], ["last"], ["canary", "last"]])
HOW = st.sampled_from(["=", "!=", "in", "not in"])
TESTS = st.one_of(
    st.builds(labelled, st.just("site"), st.just("site"), SOME_SITES, HOW),
    st.builds(labelled, st.just("label.ring"), st.just("ring"), SOME_RINGS, HOW),
    st.builds(grouped, st.sampled_from(GROUPS), st.sampled_from(["=", "!="])),
)
SCOPES = st.recursive(
    TESTS,
    lambda some: st.builds(both, some, some) | st.builds(either, some, some) | some.map(neither),
    max_leaves=3,
)
EVERYWHERE: Final = Where("", lambda _: True)


@dataclass(frozen=True)
class Somebody:
    """A subject with bindings, and what the token that is shown leaves of them."""

    bindings: list[tuple[str, Where]]
    cap: tuple[str, Where]
    is_service: bool

    def held(self, roles: frozenset[str]) -> Test | None:
        """Return the devices over which one may what these roles may; None: one may not at all."""
        given_ = [where for role, where in self.bindings if role in roles]
        role, most = self.cap
        if not given_ or role not in roles:
            return None
        return lambda it: most.holds(it) and any(where.holds(it) for where in given_)


ROLES = st.sampled_from(["viewer", "operator", "operator", "approver", "auditor", "admin"])
WHOLE: Final = ("admin", EVERYWHERE)
SOMEBODY = st.builds(
    Somebody,
    st.lists(st.tuples(ROLES, SCOPES), min_size=1, max_size=2),
    st.just(WHOLE) | st.tuples(ROLES, SCOPES),
    st.booleans(),
)
LABELS = st.fixed_dictionaries(
    {}, optional={"site": st.sampled_from(SITES), "ring": st.sampled_from(RINGS)}
)


@dataclass
class Story:
    """What happens before anybody looks, by the numbers of the devices."""

    devices: list[tuple[str, dict[str, str]]]  # group, labels
    rollouts: list[tuple[set[int], bool]]  # of which, of no one: of all; whether it is started
    relabelled: list[tuple[int, dict[str, str]]]
    people: list[Somebody]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    devices = draw(
        st.lists(st.tuples(st.sampled_from(GROUPS), LABELS), min_size=2, max_size=4), "devices"
    )
    which = st.integers(0, len(devices) - 1)
    return Story(
        devices,
        draw(st.lists(st.tuples(st.sets(which), st.booleans()), min_size=1, max_size=3)),
        draw(st.lists(st.tuples(which, LABELS), max_size=2)),
        draw(st.lists(SOMEBODY, min_size=2, max_size=2)),
    )


# Every device that there might ever be, as far as scopes and the targets below can tell.
UNIVERSE: Final = [
    Thing(name, group, {key: value for key, value in (("site", site), ("ring", ring)) if value})
    for name, group, site, ring in product(("gw-0", "other"), GROUPS, (*SITES, ""), (*RINGS, ""))
]
TARGETS: Final[list[tuple[dict[str, Any], Test]]] = [
    ({}, lambda _: True),
    ({"labels": {"site": "lyon"}}, lambda it: it.labels.get("site") == "lyon"),
    (
        {"filter": "site in (lyon, lima) and group = kiosks"},
        lambda it: it.labels.get("site") in SITES and it.group == "kiosks",
    ),
    (
        {"filter": "label.ring = canary or site != lyon"},
        lambda it: it.labels.get("ring") == "canary" or it.labels.get("site") != "lyon",
    ),
]


@dataclass
class Fleet:
    """The world as it is by now, what there is in it, and whatever anybody ought to see of it."""

    world: HttpWorld
    things: dict[str, Thing] = field(default_factory=dict[str, Thing])
    as_enrolled: dict[str, Thing] = field(default_factory=dict[str, Thing])
    rollouts: dict[str, list[dict[str, Any]]] = field(  # executions, as who sees all sees them
        default_factory=dict[str, list[dict[str, Any]]]
    )
    records: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pages: dict[str, Any] = field(default_factory=dict[str, Any])

    async def whole(self, path: str) -> list[dict[str, Any]]:
        """Return what there is of a list by now."""
        return items(await self.world.client().get(path))

    async def page(self, path: str) -> Any:
        """Return what there was when it was looked at first; nothing changes while people read."""
        if path not in self.pages:
            self.pages[path] = (await self.world.client().get(path)).json()
        return self.pages[path]

    async def begin(self, story: Story) -> None:
        """Let it all happen."""
        admin = self.world.client()
        for number, (group, labels) in enumerate(story.devices):
            name = f"gw-{number}"
            await enrol(self.world, name, group=group, **labels)
            self.things[name] = Thing(name, group, labels)
        self.as_enrolled = dict(self.things)
        for number, (some, is_started) in enumerate(story.rollouts):
            groups = {"groups": [{"devices": 1}, {}]}
            names = [f"gw-{one}" for one in sorted(some)]
            body = {**WHAT, "name": f"r-{number}", "devices": names, "strategy": groups}
            made = await admin.post("rollouts", body)
            assert made.status_code == 201, made.text
            if is_started:
                path = f"rollouts/{made.json()['id']}/start"
                assert (await admin.post(path)).status_code == 200
        for target, _ in TARGETS:
            (await admin.post("recurring-rollouts", {**NIGHTLY, **target})).raise_for_status()
            saved = await admin.post("rollouts/plans", {**WHAT, **target})
            assert saved.status_code == 201 or error_of(saved) == (400, "no_devices")
        await asyncio.to_thread(run, self.world)
        for number, labels in story.relabelled:
            name = f"gw-{number}"
            path = f"{V1}/devices/{name}"
            (await admin.send("PATCH", path, json={"labels": labels})).raise_for_status()
            self.things[name] = replace(self.things[name], labels=labels)

    async def look(self) -> None:
        """Remember what there is, as who may see everything sees it."""
        for rollout in await self.whole("rollouts"):
            path = f"rollouts/{rollout['id']}/executions"
            self.rollouts[rollout["id"]] = await self.whole(path)
        self.records = await self.whole("audit?limit=1000")

    async def admit(self, number: int, who: Somebody) -> Client:
        """Have somebody come, with all that they were given."""
        name = f"person-{number}"
        kind = SubjectKind.SERVICE if who.is_service else SubjectKind.USER
        owner = "user:admin" if who.is_service else None
        (role, where), *more = who.bindings
        self.world.admit(name, role, where.text, kind=kind, owner=owner)
        for role, where in more:
            body = {"subject": name, "role": role, "scope": where.text}
            answer = await self.world.client().post("bindings", body)
            assert answer.status_code == 201 or error_of(answer)[0] == 409, answer.text
        role, most = who.cap
        return self.world.client_of(
            self.world.token_of(f"{kind}:{name}", "second", role, most.text)
        )

    def of(self, rollout_id: str) -> list[Thing]:
        return [self.things[one["device_id"]] for one in self.rollouts[rollout_id]]

    def is_told(self, record: dict[str, Any], may: Test) -> bool:
        """Tell whether a record is for somebody: with its device, or with the whole rollout."""
        device, rollout = (about(record["body"], kind) for kind in ("device", "rollout"))
        if device is not None:
            return device in self.things and may(self.things[device])
        return rollout is not None and all(map(may, self.of(rollout)))


def about(body: dict[str, Any], kind: str) -> str | None:
    """Return the device or rollout that a record is about."""
    if body["subject"].startswith(f"{kind}/"):
        return body["subject"].partition("/")[2]
    return body["detail"].get(kind)


def items(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def sees(fleet: Fleet, client: Client, who: Somebody) -> None:
    """Check all that somebody reads."""
    may = who.held(SEE)
    if may is None:
        for path in ("devices", "rollouts", "rollouts/plans", "recurring-rollouts"):
            assert error_of(await client.get(path)) == (403, "not_allowed")
        return
    everywhere = who.cap[1] is EVERYWHERE and any(one is EVERYWHERE for _, one in who.bindings)
    await devices(fleet, client, may)
    listed = {one["id"]: one for one in items(await client.get("rollouts"))}
    for rollout_id in fleet.rollouts:
        shown = await rollout(fleet, client, may, rollout_id)
        assert listed.get(rollout_id) == shown
    assert set(listed) == {one for one in fleet.rollouts if any(map(may, fleet.of(one)))}
    for path in ("recurring-rollouts", "rollouts/plans"):
        await promised(fleet, client, may, path, everywhere=everywhere)


async def devices(fleet: Fleet, client: Client, may: Test) -> None:
    expected = [name for name, one in sorted(fleet.things.items()) if may(one)]
    assert [one["id"] for one in items(await client.get("devices"))] == expected
    paged: list[str] = []
    while page := items(await client.get(f"devices?limit=1&after={paged[-1] if paged else ''}")):
        paged += [one["id"] for one in page]
    assert paged == expected
    narrowed = items(await client.get("devices?filter=site%20!%3D%20lyon"))
    elsewhere = [name for name in expected if fleet.things[name].labels.get("site") != "lyon"]
    assert [one["id"] for one in narrowed] == elsewhere
    for name in fleet.things:
        for path in (f"devices/{name}", f"devices/{name}/why"):
            answer = await client.get(path)
            if name not in expected:
                assert error_of(answer) == (404, "device_not_found")
                continue
            assert answer.json() == await fleet.page(path)
    classes = (await client.post("fit/matrix", {"models": ["talk"], "context": 256})).json()
    assert sum(one["devices"] for one in classes["classes"]) == len(expected)
    planned = (await client.post("rollouts/plan", WHAT)).json()["devices"]
    assert sorted(one["device_id"] for one in planned) == expected


async def rollout(
    fleet: Fleet, client: Client, may: Test, rollout_id: str
) -> dict[str, Any] | None:
    """Check what somebody reads of a rollout, and return it; None: it is not there for them."""
    own = [one for one in fleet.rollouts[rollout_id] if may(fleet.things[one["device_id"]])]
    path = f"rollouts/{rollout_id}"
    shown, runs, approval = [
        await client.get(f"{path}{more}") for more in ("", "/executions", "/approval")
    ]
    if not own:
        for answer in (shown, runs, approval):
            assert error_of(answer) == (404, "rollout_not_found")
        return None
    assert items(runs) == own
    view = shown.json()
    assert view["counts"] == Counter(one["state"] for one in own)
    for group in view["groups"]:
        of_group = [one for one in own if one["group"] == group["number"]]
        assert group["counts"] == Counter(one["state"] for one in of_group)
        assert group["devices"] == len(of_group)
    there = (await fleet.page(path))["target"]["devices"]
    assert view["target"]["devices"] == [one for one in there if may(fleet.things[one])]
    if len(own) < len(fleet.rollouts[rollout_id]):
        assert error_of(approval) == (403, "outside_scope")
    else:
        assert approval.status_code == 200
    return view


async def promised(fleet: Fleet, client: Client, may: Test, path: str, *, everywhere: bool) -> None:
    """Check what reaches devices to come: whatever is shown is for none but those of the scope."""
    shown = {one["id"]: one for one in items(await client.get(path))}
    for one in (await fleet.page(path))["items"]:
        there = one["target"].get("filter", ""), one["target"]["labels"]
        means = next(
            means
            for said, means in TARGETS
            if (said.get("filter", ""), said.get("labels", {})) == there
        )
        is_own = all(may(thing) for thing in UNIVERSE if means(thing))
        answer = await client.get(f"{path}/{one['id']}")
        if one["id"] in shown:
            assert is_own, one
            assert answer.status_code == 200
            assert shown[one["id"]] == one
        else:
            assert not everywhere
            assert answer.status_code == 404


async def audits(fleet: Fleet, client: Client, who: Somebody) -> None:
    """Check all that somebody reads of the log, up to where it was when it was looked at."""
    may = who.held(READ_AUDIT)
    if may is None:
        for path in ("audit", "audit/export", "devices/gw-0/audit"):
            assert error_of(await client.get(path)) == (403, "not_allowed")
        return
    expected = [one for one in fleet.records if fleet.is_told(one, may)]
    last = fleet.records[-1]["seq"]
    listed = items(await client.get("audit?limit=1000"))
    assert [one for one in listed if one["seq"] <= last] == expected
    exported = await client.get("audit/export")
    assert exported.status_code == 200, exported.text
    lines = [json.loads(line) for line in exported.text.splitlines()]
    seqs = [line["record"]["seq"] for line in lines if "record" in line]
    assert [seq for seq in seqs if seq <= last] == [one["seq"] for one in expected]
    assert seqs == [one["seq"] for one in listed]
    as_cef = await client.get("audit/export?format=cef")
    assert len(as_cef.text.splitlines()) == len(seqs)
    for name, thing in fleet.things.items():
        answer = await client.get(f"devices/{name}/audit")
        assert answer.status_code == (200 if may(thing) else 404)
        seen = items(await client.get(f"audit?limit=1000&device={name}"))
        assert bool(seen) == any(one in expected for one in seen)
        assert may(thing) or not seen
    for rollout_id in fleet.rollouts:
        seen = items(await client.get(f"audit?limit=1000&rollout={rollout_id}"))
        assert [one for one in seen if one["seq"] <= last] == [
            one for one in expected if about(one["body"], "rollout") == rollout_id
        ]


async def touches(fleet: Fleet, client: Client, who: Somebody) -> None:
    """Check what somebody changes; the fleet is followed."""
    may = who.held(CHANGE)
    if may is None:
        for path in ("rollouts", "rollouts/plans"):
            assert error_of(await client.post(path, WHAT)) == (403, "not_allowed")
        assert error_of(await client.get("enrolment-tokens")) == (403, "not_allowed")
    else:
        tokens = items(await client.get("enrolment-tokens"))
        assert {one["device_id"] for one in tokens} == {
            name for name, one in fleet.as_enrolled.items() if may(one)
        }
        await rolls_out(fleet, client, may)
    for rollout_id in fleet.rollouts:
        own = [*map(may or (lambda _: False), fleet.of(rollout_id))]
        answer = await client.post(f"rollouts/{rollout_id}/stop")
        if may is None:
            assert error_of(answer) == (403, "not_allowed")
        elif not any(own):
            assert error_of(answer) == (404, "rollout_not_found")
        elif not all(own):
            assert error_of(answer) == (403, "outside_scope")
        else:
            assert answer.status_code in (200, 409), answer.text
    for name, thing in [*fleet.things.items()]:
        await relabels(fleet, client, may, replace(thing, labels={"site": "lima"}), name)


async def rolls_out(fleet: Fleet, client: Client, may: Test) -> None:
    own = {name for name, one in fleet.things.items() if may(one)}
    named = await client.post("rollouts", {**WHAT, "devices": [*fleet.things]})
    if own != set(fleet.things):
        assert error_of(named) == (404, "device_not_found")
    else:
        assert named.status_code == 201, named.text
    for name in fleet.things:
        bundle = await client.post("bundles", {"devices": [name]})
        if name not in own:
            assert error_of(bundle) == (404, "device_not_found")
        else:
            assert bundle.status_code not in (403, 404), bundle.text
    made = await client.post("rollouts", WHAT)
    if not own:
        assert error_of(made) == (400, "no_devices")
        return
    assert made.status_code == 201, made.text
    runs = await fleet.whole(f"rollouts/{made.json()['id']}/executions")
    assert {one["device_id"] for one in runs} == own


async def relabels(
    fleet: Fleet, client: Client, may: Test | None, wanted: Thing, name: str
) -> None:
    body = {"labels": dict(wanted.labels)}
    answer = await client.send("PATCH", f"{V1}/devices/{name}", json=body)
    if may is None:
        assert error_of(answer) == (403, "not_allowed")
    elif not may(fleet.things[name]):
        assert error_of(answer) == (404, "device_not_found")
    elif not may(wanted):
        assert error_of(answer) == (403, "outside_scope")
    else:
        assert answer.status_code == 200, answer.text
        fleet.things[name] = wanted


class Template:
    """A world with a release, of which each story has a copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = HttpWorld(folder)
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        await publish(self.world, self.folder)
        put = f"{V1}/models/talk/channels/stable/releases/1.0.0"
        (await self.world.client().send("PUT", put)).raise_for_status()

    def copy(self, folder: Path) -> HttpWorld:
        """Return another, with a signer of its own: it has signed nothing yet."""
        with (
            closing(sqlite3.connect(self.folder / "controller.db")) as there,
            closing(sqlite3.connect(folder / "controller.db")) as here,
        ):
            there.backup(here)
        made = self.world.replica(Database(sqlite_url(folder / "controller.db")))
        made.desk = Desk(folder, now=made.now)
        signer = made.desk.core
        made.parts = replace(
            made.parts,
            authority=Root.load(made.desk.root_file),
            signer=signer,
            checkpoints=Checkpoints(made.parts.database, signer),
        )
        made.app = make_app(made.parts, "0.0.0")
        return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Generator[Template]:
    made = Template(tmp_path_factory.mktemp("template"))
    yield made
    made.world.close()


async def happens(fleet: Fleet, story: Story) -> None:
    await fleet.begin(story)
    people = [(await fleet.admit(number, who), who) for number, who in enumerate(story.people)]
    await fleet.look()
    for client, who in people:
        await sees(fleet, client, who)
        await audits(fleet, client, who)
    for client, who in people:
        await touches(fleet, client, who)


@pytest.mark.parametrize(
    "many", [4, pytest.param(300, marks=[pytest.mark.full, pytest.mark.timeout(1800)])]
)
def test_everybody_sees_and_touches_what_is_theirs(template: Template, many: int) -> None:
    @settings(
        max_examples=many,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.generate],  # to shrink one takes minutes
    )
    @given(stories())
    def check(story: Story) -> None:
        note(f"{story}")
        with tempfile.TemporaryDirectory() as folder:
            world = template.copy(Path(folder))
            try:
                asyncio.run(happens(Fleet(world), story))
            finally:
                world.close()

    check()
