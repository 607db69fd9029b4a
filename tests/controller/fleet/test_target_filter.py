from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.fleet.filters import queries
from sprat_controller.fleet.filters.fields import FIELDS, Facts, Field, Kind
from sprat_controller.fleet.filters.tokens import MAX_LENGTH, FilterError
from sprat_controller.fleet.filters.tree import (
    EVERY_DEVICE,
    Compared,
    Exists,
    Has,
    Is,
    Matches,
    Op,
    Pattern,
    Tree,
    all_of,
    any_of,
    negated,
    said,
)
from sprat_controller.fleet.target_filter import MAX_DEPTH, MAX_TESTS, matches, parse
from sprat_controller.store.session import Database
from sprat_controller.store.tables import Device, DeviceLabel
from sqlalchemy.pool import StaticPool
from sqlmodel import Session, SQLModel, col, create_engine

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
GIB = 1 << 30
CAMERA = Facts(
    device="cam-17",
    labels={"site": "lyon", "ring": "canary", "floor/room": "2 b"},
    state="IN_SYNC",
    group="default",
    hardware_class="abc",
    agent_version="1.4.0",
    capability=9,
    online=True,
    arch="aarch64",
    os="linux 6.8",
    processor='ARM "Cortex" *A76*',
    cores=4,
    memory=2 * GIB,
    memory_budget=GIB,
    disk_free=3 * 10**9,
    cpu_features=("neon", "dotprod"),
    accelerators=("vulkan:v3d",),
    runtimes=("llama.cpp",),
)
SILENT = Facts(device="new-1")  # it said no Hello yet


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "site = lyon",
        "site=lyon and(cores>=4 or hardware_class in (x, abc))and not label.ring = stable",
        "site != paris",
        "site in (paris, lyon)",
        "site not in (paris, rome)",
        "label.floor/room = '2 b'",
        "label.floor/room = 2*",
        "label.ring exists and not label.owner exists",
        "device = cam-* and device = *-17 and device = c*m*7",
        "id = cam-17",
        "memory >= 2GiB and memory <= 2GiB and memory < 2.5GiB and memory > 2GB",
        "memory_bytes = 2147483648",
        "disk_free in (1GB, 3GB)",
        "cores in (2, 4) and cores not in (1, 8) and cores != 3",
        "capability >= 9",
        "online and online = true and online != false and not simulated",
        "simulated = FALSE",
        "has(neon) and has(llama*) and has('vulkan:v3d') and not has(avx2)",
        "cpu_features = dotprod and cpu_features != avx2 and accelerators exists",
        r'processor = "ARM \"Cortex\" \*A76\*"',
        r"processor = 'ARM \"Cor*\*A76*'",
        "os = linux* and os != 'linux 5*'",
        "not not site = lyon",
    ],
)
def test_a_device_is_meant(text: str) -> None:
    assert matches(parse(text), CAMERA)


@pytest.mark.parametrize(
    "text",
    [
        "site = Lyon",
        "site = lyo",
        "site = ''",
        "site = paris or cores > 4",
        "site = lyon and cores > 4",
        "not (site = lyon or site = paris)",
        "label.owner = *",
        "device = cam-1",
        "device = cam-*-17",
        "memory < 2GiB",
        "memory != 2GiB",
        "simulated",
        "not online",
        "cpu_features = neo",
        "has(NEON)",
        "processor = 'ARM'",
    ],
)
def test_a_device_is_not_meant(text: str) -> None:
    assert not matches(parse(text), CAMERA)


@pytest.mark.parametrize(
    "test",
    ["site = *", "site exists", "memory >= 0", "cores exists", "arch = *", "has(*)", "arch = ''"],
)
def test_what_is_not_known_meets_no_test_but_its_negation(test: str) -> None:
    assert not matches(parse(test), SILENT)
    assert matches(parse(f"not {test}"), SILENT)


@pytest.mark.parametrize(
    ("text", "position", "expected", "found"),
    [
        ("site", 5, "=, !=, in", "the end"),
        ("site = ", 8, "a value", "the end"),
        ("site = lyon cores = 4", 13, "and, or, or the end", "cores"),
        ("site = lyon and", 16, "a field", "the end"),
        ("(site = lyon", 13, "and, or, or )", "the end"),
        ("()", 2, "a field", ")"),
        ("site = lyon)", 12, "and, or, or the end", ")"),
        ("town = lyon", 1, "a field (site, device", "town"),
        ("label. = x", 1, "a label's key", "label."),
        ("label.-x = y", 1, "a label's key", "label.-x"),
        ("site > lyon", 6, "=, !=, in, not in or exists after site", ">"),
        ("site = or", 8, "in quotes", "or"),
        ("cores = many", 9, "a whole number", "many"),
        ("cores = 4GiB", 9, "a whole number without a unit", "4GiB"),
        ("cores >= 1.5", 10, "a whole number", "1.5"),
        ("memory > 2 GiB", 12, "and, or, or the end", "GiB"),
        ("memory > 2Gib", 10, "with a unit of TiB, GiB", "2Gib"),
        ("memory > 0.1B", 10, "whole bytes", "0.1B"),
        ("memory > 99999999999999TiB", 10, "at most 2^63", "99999999999999TiB"),
        ("memory in (1GiB", 16, ", or )", "the end"),
        ("site in lyon", 9, "( after in", "lyon"),
        ("site not = lyon", 10, "in after not", "="),
        ("has neon", 5, "( after has", "neon"),
        ("online = yes", 10, "true or false", "yes"),
        ("online exists", 8, "and, or, or the end", "exists"),
        ("site = 'lyon", 8, "a closing ' after this one", "the end"),
        (r"site = 'a\n'", 11, "after a backslash", "'n'"),
        ("site = ly§n", 10, "a word, a value in quotes or a sign", "'§'"),
        ("site = 'a\x00'", 10, "no control character", "'\\x00'"),
        ("site = '\ud800'", 9, "no control character", "'\\ud800'"),
        ("site = a*b*c*d*e*f*g*h*i*j", 8, "at most 8 *", "a*b*c*d*e*f*g*h*i*j"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH + 1, "at most 4096 characters", "4097 of them"),
        ("not " * 40 + "online", 4 * (MAX_DEPTH + 1) + 1, "at most 32", "more"),
        ("(" * 40 + "online" + ")" * 40, MAX_DEPTH + 2, "at most 32", "more"),
        (" or ".join(["online"] * 201), MAX_TESTS * 10 + 1, "at most 200 tests", "more"),
    ],
)
def test_an_error_says_where_what_was_expected_and_what_was_found(
    text: str, position: int, expected: str, found: str
) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert caught.value.code == "bad_filter"
    assert caught.value.details["position"] == position
    assert expected in str(caught.value.details["expected"])
    assert caught.value.details["found"] == found
    assert caught.value.message.startswith(f"filter, character {position}: expected ")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("", ""),
        ("( site=lyon )AND((os = 'linux'))", "site = lyon and os = linux"),
        ("not (not online)", "online"),
        ("site = lyon or site = rome and online", "site = lyon or site = rome and online"),
        ("(site = lyon or site = rome) and online", "(site = lyon or site = rome) and online"),
        ("not (online and simulated)", "not (online and simulated)"),
        ("not site in (a)", "site != a"),
        ("not site in (a, 'b c')", 'site not in (a, "b c")'),
        ("memory_bytes >= 2147483648", "memory >= 2GiB"),
        ("memory = 3GB", "memory = 3000000000"),
        ("memory = 0", "memory = 0"),
        ("cores in (2, 4)", "cores = 2 or cores = 4"),
        ("label.site = x", "site = x"),
        ("site = 'or'", 'site = "or"'),
        ("site = ''", 'site = ""'),
        (r"site = 'a\*b*'", r'site = "a\*b*"'),
        ("online = false", "not online"),
    ],
)
def test_a_filter_has_one_form(text: str, form: str) -> None:
    assert said(parse(text)) == form
    assert parse(form) == parse(text)


# Words that databases, patterns and the language itself could take for something else.
WORDS = ["lyon", "LYON", "a*b", "*", "[a]", "a?", "50%", "a_b", "\\", "'", '"', "or", "ü é", "1"]
KEYS = ["site", "ring", "a.b/c-d"]
FLAGS = [field for field in FIELDS.values() if field.kind is Kind.FLAG]
NUMBERS = [field for field in FIELDS.values() if field.is_number]
TEXTS = [
    *(field for field in FIELDS.values() if field.kind in (Kind.TEXT, Kind.SET)),
    *(Field(key, Kind.LABEL) for key in KEYS),
]
numbers = st.sampled_from([0, 1, 4, 1023, GIB, GIB + 1, (1 << 40) * 3, (1 << 63) - 1])
words = st.sampled_from(WORDS) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6
)
patterns = st.builds(
    Pattern,
    st.lists(st.sampled_from(["", *WORDS, "l", "y", "on"]), min_size=1, max_size=3).map(tuple),
)
tests = st.one_of(
    st.builds(
        Matches,
        st.sampled_from(TEXTS),
        st.lists(patterns, min_size=1, max_size=3).map(tuple[Pattern, ...]),
    ),
    st.builds(Compared, st.sampled_from(NUMBERS), st.sampled_from(Op), numbers),
    st.builds(Exists, st.sampled_from([*TEXTS, *NUMBERS])),
    st.builds(Has, patterns),
    st.builds(Is, st.sampled_from(FLAGS)),
)
trees: st.SearchStrategy[Tree] = st.recursive(
    tests,
    lambda inner: st.one_of(
        inner.map(negated),
        st.lists(inner, min_size=2, max_size=3).map(all_of),
        st.lists(inner, min_size=2, max_size=3).map(any_of),
    ),
    max_leaves=8,
)


@given(trees)
def test_what_is_said_is_read_as_the_same(tree: Tree) -> None:
    assert parse(said(tree)) == tree
    assert said(parse(said(tree))) == said(tree)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                *("site", "cores", "=", ">=", "(", ")", "and", "or", "not", "in", "exists", "has"),
                *(",", "online", "4", "2GiB", "'a b'", "*", "label.x", "\\", '"', "\n"),
            ]
        ),
        max_size=20,
    ).map(" ".join)
)
def test_garbage_is_read_or_refused_and_never_crashes(text: str) -> None:
    try:
        tree = parse(text)
    except FilterError as error:
        position = int(str(error.details["position"]))
    else:
        position = 1
        assert parse(said(tree)) == tree
        assert matches(tree, CAMERA) is not matches(negated(tree), CAMERA)
    assert 1 <= position <= len(text) + 1


profiles = st.none() | st.fixed_dictionaries(
    {"arch": words, "os": words, "cpu_features": st.lists(words, max_size=3)},
    optional={
        "processor": words,
        "power": words,
        "cores": numbers,
        "memory_bytes": numbers,
        "memory_budget_bytes": numbers,
        "disk_free_bytes": numbers,
        "accelerators": st.lists(words, max_size=2),
        "runtimes": st.lists(words, max_size=2),
    },
)
devices = st.fixed_dictionaries(
    {
        "state": words,
        "group": words,
        "hardware_class": st.none() | words,
        "agent_version": words,
        "capability": st.integers(0, 9),
        "online": st.booleans(),
        "simulated": st.booleans(),
        "profile": profiles,
    }
)
fleets = st.lists(
    st.tuples(devices, st.dictionaries(st.sampled_from(KEYS), words, max_size=3)), max_size=4
)


@cache
def in_memory() -> sql.Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    SQLModel.metadata.create_all(engine)
    return engine


def enrol(session: Session, device_id: str, labels: dict[str, str], **columns: Any) -> None:
    session.add(Device(id=device_id, key_sha256="k", enrolled_at=NOW, **columns))
    session.flush()
    for key, value in labels.items():
        session.add(DeviceLabel(device_id=device_id, key=key, value=value))
    session.flush()


def asked(session: Session, tree: Tree) -> list[str]:
    name = col(Device.id)
    which = sql.select(name).where(queries.where(session, tree)).order_by(name)
    return list(session.connection().execute(which).scalars())


@given(fleets, trees)
def test_the_database_says_what_the_predicate_says(
    fleet: list[tuple[dict[str, object], dict[str, str]]], tree: Tree
) -> None:
    with Session(in_memory()) as session:
        for number, (columns, labels) in enumerate(fleet):
            enrol(session, f"d-{number}", labels, **columns)
        known = queries.facts(session, sql.true())
        assert asked(session, tree) == [one.device for one in known if matches(tree, one)]
        session.rollback()


def test_facts_are_what_is_stored(database: Database) -> None:
    with database.transaction() as session:
        enrol(
            session,
            CAMERA.device,
            dict(CAMERA.labels),
            state=CAMERA.state,
            hardware_class="abc",
            agent_version="1.4.0",
            capability=9,
            online=True,
            profile={
                "arch": "aarch64",
                "os": "linux 6.8",
                "processor": CAMERA.processor,
                "cores": 4,
                "memory_bytes": 2 * GIB,
                "memory_budget_bytes": GIB,
                "disk_free_bytes": 3 * 10**9,
                "cpu_features": ["neon", "dotprod"],
                "accelerators": ["vulkan:v3d"],
                "runtimes": ["llama.cpp"],
            },
        )
        enrol(session, SILENT.device, {}, state="")
        known = queries.facts(session, sql.true())
        assert known == [CAMERA, Facts(device="new-1", group="default")]


# Each kind of test, and each sign that LIKE, GLOB or a cast could take for something else.
QUESTIONS = [
    "",
    "site = lyon",
    "site = LYON",
    "site != lyon",
    "site = l*n",
    "site = 'l?on' or site = 'l[a-z]on' or site = 'l_on' or site = 'l%'",
    "label.note = '50%*' and label.note = '*[x]?_*'",
    "label.note = *50*",
    r"label.note = '*\\*' or label.note = '*\**'",
    "device = *",
    "hardware_class exists",
    "not hardware_class = abc",
    "os = linux*",
    "os != linux",
    "cores >= 4",
    "not cores >= 4",
    "memory > 4GiB and memory < 9000000TB",
    "memory exists",
    "capability in (0, 9)",
    "has(neon)",
    "not has(n*)",
    "cpu_features != neon",
    "runtimes exists",
    "online or simulated",
    "not online and (site exists or cores = 4)",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_database_says_the_same(database: Database, question: str) -> None:
    told = {"arch": "aarch64", "os": "linux 6", "cores": 4, "memory_bytes": 1 << 62}
    with database.transaction() as session:
        enrol(session, "a", {"site": "lyon", "note": r"50% [x]?_ \ *"}, state="")
        enrol(session, "b", {"site": "LYON"}, state="", profile=told, online=True)
        told = told | {"cpu_features": ["neon"], "runtimes": [], "cores": 2}
        enrol(session, "c", {}, state="", profile=told, hardware_class="abc", simulated=True)
        enrol(session, "d", {"note": "5050"}, state="", profile=None, capability=9)
        tree = parse(question)
        known = queries.facts(session, sql.true())
        assert asked(session, tree) == [one.device for one in known if matches(tree, one)]


def test_a_filter_of_all_tests_it_may_have_is_answered(database: Database) -> None:
    longest = " or ".join(f"os = {number}" for number in range(MAX_TESTS))
    deepest = "not (" * (MAX_DEPTH // 2) + "site = lyon" + ")" * (MAX_DEPTH // 2)
    with database.transaction() as session:
        enrol(session, "a", {"site": "lyon"}, state="", profile={"os": "199"})
        for text in (longest, deepest):
            assert asked(session, parse(text)) == ["a"]


def test_an_empty_filter_means_every_device() -> None:
    assert parse(" \n") == EVERY_DEVICE
    assert matches(EVERY_DEVICE, SILENT)


@pytest.mark.parametrize(
    "test",
    [
        "site = s{0}",
        "site = s{0} or label.ring = r{0}",
        "device = d{0}-1 or group in (g{0}, h{0})",
        "site = s{0} or site = gw-* or device = *-1",
    ],
)
def test_what_is_put_together_of_thousands_of_filters_can_be_asked(
    any_database: Database, test: str
) -> None:
    """What somebody may see is an `or` of what they were given, however often they were."""
    tree = any_of([parse(test.format(number)) for number in range(2000)])
    with any_database.transaction() as session:
        enrol(session, "d7-1", {"site": "s7", "l7": "a"}, state="IN_SYNC", group="g7")
        enrol(session, "other", {"site": "elsewhere", "ring": "none"}, state="IN_SYNC")
        known = queries.facts(session, sql.true())
        found = asked(session, tree)
    assert "d7-1" in found
    assert found == [one.device for one in known if matches(tree, one)]
