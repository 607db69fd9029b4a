"""Every route that changes something writes who did what, in the log, as a committed table says.

The table is `route_events.txt` beside this file: a row for each route of the OpenAPI document that
is no GET, and in it the tags of the records that a call writes which does something, `-` for one
that changes nothing. Each of them is told with the request's id and by who asked; and what is
refused changes nothing at all.

It is written anew by running this with SPRAT_WRITE_EVENTS=1; then read what changed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Generator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from simulators.done_calls import CALLS, Call, Scene
from simulators.http_world import Client, HttpWorld
from simulators.lyon_calls import BODIES
from simulators.two_sites import two_sites
from simulators.watched import contents
from sprat_controller.audit.changes import CHANGES, fault
from sprat_controller.store.tables import AuditRecord
from sprat_proto import approval
from sqlmodel import col, select

TABLE = Path(__file__).with_name("route_events.txt")
NOTHING = "-"
DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
# Anybody may begin to sign in, and it takes no body: only too many of them are refused.
NEVER_REFUSED = {"POST /api/v1/oidc/device"}
HOW = (
    "add a call that does something to CALLS in tests/simulators/done_calls.py, then run this with"
    " SPRAT_WRITE_EVENTS=1 and read the row that it adds to route_events.txt"
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Generator[Scene]:
    """The two sites, made once."""
    folder = tmp_path_factory.mktemp("scene")
    world = HttpWorld(folder)
    yield Scene(asyncio.run(two_sites(world, folder)), folder)
    world.close()


@pytest.fixture(autouse=True)
def _anew(scene: Scene) -> None:
    """Let a minute pass: so many refusals are written down in each. Nobody must approve."""
    scene.sites.world.later(seconds=61)
    scene.sites.world.policy = approval.NOBODY


def rows() -> dict[str, list[str]]:
    """Return the tags of each route of the table."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return {line[:72].strip(): line[72:].split() for line in lines}


async def changing(client: Client) -> list[str]:
    """Return the routes of the document that are no GET."""
    document = (await client.send("GET", "/openapi.json")).json()
    return sorted(
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if method != "get"
    )


async def send(scene: Scene, route: str, call: Call, client: Client | None = None) -> Any:
    by = client or call.client or scene.admin
    sent: dict[str, Any] = {} if call.body is None else {"json": call.body}
    if call.content is not None:
        sent["content"] = call.content
    if call.form is not None:
        sent["data"] = call.form
    return await by.send(route.partition(" ")[0], call.path, **sent)


def records(scene: Scene, answer: httpx.Response) -> list[dict[str, Any]]:
    """Return what was written down for the request of an answer."""
    request = answer.headers["x-request-id"]
    with scene.sites.world.parts.database.reading() as session:
        bodies = session.exec(select(AuditRecord.body).order_by(col(AuditRecord.seq))).all()
    found = [json.loads(body) for body in bodies if request.encode() in body]
    return [one for one in found if one.get("request") == request]


def name_of(actor: dict[str, str]) -> str:
    return actor["id"] if actor["type"] == "system" else f"{actor['type']}:{actor['id']}"


async def tags(scene: Scene, route: str) -> list[str]:
    """Do what a route does, and return what stands in the log of it."""
    call = await CALLS[route](scene)
    before = contents(scene.sites.world.parts.database)
    answer = await send(scene, route, call)
    assert answer.is_success, (route, answer.text)
    written = records(scene, answer)
    has_changed = contents(scene.sites.world.parts.database) != before
    assert has_changed == bool(written), (
        f"{route} changed {'something' if has_changed else 'nothing'} and wrote {len(written)}"
        " records: append one in the transaction that changes something, and only then"
    )
    for one in written:
        assert one["subject"], route
        assert one["outcome"] == "success", route
        assert one["tag"] in set(CHANGES), f"{one['tag']} has no row in audit/changes.py"
        assert not fault(one), route
    if written:
        assert call.actor in {name_of(one["actor"]) for one in written}, (route, written)
    return sorted({one["tag"] for one in written})


@pytest.mark.parametrize("route", sorted(CALLS))
async def test_a_route_writes_what_the_table_says(scene: Scene, route: str) -> None:
    found = await tags(scene, route) or [NOTHING]
    if os.environ.get("SPRAT_WRITE_EVENTS") == "1":
        table = rows() | {route: found}
        lines = [f"{one:<72}{' '.join(table[one])}\n" for one in sorted(table) if one in CALLS]
        TABLE.write_text("".join(lines), encoding="utf-8")
    assert rows().get(route) == found, HOW


async def test_no_route_is_without_a_row(scene: Scene) -> None:
    routes = set(await changing(scene.admin))
    for known in (set(CALLS), set(rows())):
        assert not routes - known, f"no row of {', '.join(sorted(routes - known))}: {HOW}"
        assert not known - routes, f"there is no route {', '.join(sorted(known - routes))}"


async def refused(scene: Scene, route: str, call: Call, client: Client) -> int:
    """Send a call that is likely to be refused; return its status after a look at what it left."""
    database = scene.sites.world.parts.database
    before = contents(database)
    answer = await send(scene, route, call, client)
    if answer.is_success:
        return answer.status_code
    assert answer.status_code < 500, answer.text
    assert contents(database) == before, f"{route} was refused, and changed something"
    if answer.status_code in DENIED:
        denied = [one for one in records(scene, answer) if one["outcome"] != "success"]
        assert denied, f"{route} was refused, and nothing says so in the log"
        for one in denied:
            assert one["outcome"] == "denied"
            assert one["subject"]
            assert one["actor"]["id"]
            assert one["reason"], one
    else:
        assert all(one["outcome"] != "success" for one in records(scene, answer)), route
    return answer.status_code


@pytest.mark.parametrize("route", sorted(CALLS))
async def test_what_is_refused_changes_nothing(scene: Scene, route: str) -> None:
    world, sites = scene.sites.world, scene.sites
    call = await CALLS[route](scene)
    others = (
        world.client(None),
        world.client_of("sprat_wrong"),
        sites.client("viewer"),
        sites.client("admin", "lima"),
        sites.client("auditor"),
    )
    statuses = [await refused(scene, route, call, client) for client in others]
    by = call.client or scene.admin
    odd: list[Any] = [{"odd": 1}, [], {**call.body, "odd": 1} if call.body else "x"]
    if call.body:
        odd += [dict.fromkeys(call.body), {**call.body, "expected_revision": 999}]
    if route in BODIES:
        odd.append(BODIES[route])
    statuses += [await refused(scene, route, Call(call.path, body), by) for body in odd]
    world.later(seconds=61)
    # Done twice: the second time it is refused, or changes what may be changed twice.
    await send(scene, route, call)
    statuses.append(await refused(scene, route, call, by))
    assert max(statuses) >= HTTPStatus.BAD_REQUEST or route in NEVER_REFUSED
