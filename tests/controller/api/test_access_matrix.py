"""Every route, as every role, everywhere and at one of two sites: as a committed table says.

The table is `access_matrix.txt` beside this file: a row for each route of the OpenAPI document, a
column for each role, and in it what happens to somebody who has it everywhere, at Lyon, and at
Lima, when the call is about Lyon:

    A  allowed    E  allowed, and nothing of Lyon is shown    D  denied    N  not found

It is written anew by running this with SPRAT_WRITE_MATRIX=1; then read what changed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from simulators.http_world import Client, HttpWorld
from simulators.lyon_calls import BODIES, NAMES, OTHERWISE, SIGNING_IN, V1
from simulators.two_sites import WHERE, TwoSites, two_sites
from sprat_controller.access.policy import Role
from sprat_controller.api import auth

TABLE = Path(__file__).with_name("access_matrix.txt")
# What is told to be of Lyon, of lists and of what reads many devices.
SHOWS = {
    *(f"GET {V1}/{one}" for one in ("devices", "rollouts", "rollouts/plans", "audit")),
    f"GET {V1}/audit/export",
    *(f"GET {V1}/{one}" for one in ("recurring-rollouts", "enrolment-tokens")),
    *(f"POST {V1}/{one}" for one in ("fit/matrix", "rollouts/plan")),
}
# What a call removes is made for it.
FRESH = {
    f"DELETE {V1}/recurring-rollouts/{{recurrence_id}}": ("recurrence_id", "recurrence"),
    f"DELETE {V1}/bindings/{{binding_id}}": ("binding_id", "binding"),
    f"DELETE {V1}/models/{{model}}/channels/{{channel}}/releases/{{release}}": (
        "channel",
        "channel",
    ),
}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Generator[TwoSites]:
    """The two sites, made once."""
    folder = tmp_path_factory.mktemp("sites")
    world = HttpWorld(folder)
    yield asyncio.run(two_sites(world, folder))
    world.close()


async def routes(client: Client) -> list[str]:
    """Return the routes of the document for which somebody must be known, in its order."""
    document = (await client.send("GET", "/openapi.json")).json()
    return [
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith((V1, "/blobs", "/image")) and not path.startswith(SIGNING_IN)
    ]


async def sent(sites: TwoSites, client: Client, route: str) -> httpx.Response:
    method, template = route.split(" ")
    names = {**NAMES, **sites.ids}
    for part, name in OTHERWISE.get(route, {}).items():
        names[part] = sites.ids.get(name, name)
    if route in FRESH:
        part, what = FRESH[route]
        names[part] = await sites.fresh(what)
    path = template.format(**names)
    if route not in BODIES and method in ("GET", "DELETE", "PUT"):
        return await client.send(method, path)
    return await client.send(method, path, json=BODIES.get(route))


def outcome(route: str, answer: httpx.Response) -> str:
    if answer.status_code in (401, 403):
        return "D"
    if answer.status_code == 404:
        return "N"
    assert answer.status_code < 500, (route, answer.text)
    return "E" if route in SHOWS and "lyon" not in answer.text else "A"


async def row(sites: TwoSites, route: str) -> str:
    cells: list[str] = []
    for role in Role:
        at_each = [sites.client(role, where) for where in WHERE]
        answers = [await sent(sites, client, route) for client in at_each]
        cells.append("".join(outcome(route, answer) for answer in answers))
        if answers[-1].is_success and cells[-1][-1] in "EN":
            assert "lyon" not in answers[-1].text, route
    return f"{route:<72}{'  '.join(f'{cell:<9}' for cell in cells)}".rstrip()


async def test_every_route_does_for_each_role_what_the_table_says(sites: TwoSites) -> None:
    heading = f"{'everywhere, at Lyon, at Lima':<72}{'  '.join(f'{role:<9}' for role in Role)}"
    rows = [await row(sites, route) for route in sorted(await routes(sites.client("admin")))]
    found = "\n".join([heading.rstrip(), *rows, ""])
    if os.environ.get("SPRAT_WRITE_MATRIX") == "1":
        TABLE.write_text(found, encoding="utf-8")
    assert found.splitlines() == TABLE.read_text(encoding="utf-8").splitlines()


async def test_no_route_is_without_a_row(sites: TwoSites) -> None:
    known = {line[:72].strip() for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]}
    assert set(await routes(sites.client("admin"))) == known


def unguarded(routes: Iterable[Any]) -> Iterator[str]:
    """Yield the names of routes that let in whoever comes."""
    for one in routes:
        if isinstance(one, APIRoute):
            if not _asks_who(one.dependant):
                yield one.name
        elif (router := getattr(one, "original_router", None)) is not None:
            yield from unguarded(router.routes)


def _asks_who(dependant: Dependant) -> bool:
    """Tell whether credentials are looked at anywhere below."""
    asks = dependant.call in (auth.OPERATOR, auth.DEVICE)
    return asks or any(_asks_who(one) for one in dependant.dependencies)


OPEN = [
    *("livez", "readyz", "ca", "enrol", "renew", "login", "begin_oidc", "come_back_from_oidc"),
    *("begin_oidc_device", "ask_oidc_device", "backchannel_logout"),
]


def test_t50_a_route_that_asks_nobody_who_they_are_is_found(sites: TwoSites) -> None:
    envelope: Any = sites.world.app
    app: FastAPI = envelope._app
    pages = {"docs"}
    assert [name for name in unguarded(app.routes) if name not in pages] == OPEN
    router = APIRouter(prefix=V1)

    def backdoor() -> str:
        return "come in"

    router.get("/backdoor")(backdoor)
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(router)
    assert list(unguarded(app.routes)) == ["backdoor"]


async def test_t50_a_new_route_has_no_row() -> None:
    app = FastAPI()
    app.get(f"{V1}/backdoor")(lambda: "come in")
    (new,) = await routes(Client(app, None))
    known = {line[:72].strip() for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]}
    assert new not in known
