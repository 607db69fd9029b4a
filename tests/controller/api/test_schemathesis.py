"""The whole API as each role, everywhere and at one site, with requests made from its document.

Whatever is asked: no answer of 5xx, no status, content type or shape that the document does not
have, and to who is at Lima nothing of Lyon, where all that there is has `lyon` in its name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, note, settings
from schemathesis import Response
from schemathesis import checks as general
from schemathesis.specs.openapi import checks
from simulators.asking import Asked, Known, asked
from simulators.http_world import HOST, HttpWorld, error_of
from simulators.lyon_calls import BODIES, NAMES, OTHERWISE
from simulators.openid_provider import write_configuration
from simulators.scripted_provider import ScriptedProvider
from simulators.token_maker import ISSUER
from simulators.two_sites import TwoSites, two_sites
from sprat_controller.access.oidc import configuration
from sprat_controller.access.oidc.provider import Provider
from sprat_controller.access.policy import Role
from sprat_controller.store.session import Database

if TYPE_CHECKING:
    from simulators.postgres import Cluster

TABLE = Path(__file__).with_name("access_matrix.txt")
OPEN = [
    *("GET /livez", "GET /readyz", "GET /enrol/ca.pem", "POST /enrol", "POST /enrol/renew"),
    *("POST /api/v1/login", "GET /api/v1/oidc/begin", "GET /api/v1/oidc/callback"),
    *("POST /api/v1/oidc/device", "POST /api/v1/oidc/device/token"),
    "POST /api/v1/oidc/backchannel-logout",
]
ROUTES = [
    *OPEN,
    *(line[:72].strip() for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]),
]
# What removes things comes last: the rest finds more of them.
ROUTES.sort(key=lambda route: route.startswith("DELETE"))
ANY: Any = general  # their types are not all known
OF_DOCUMENT: Any = checks
CHECKS = [
    ANY.not_a_server_error,
    OF_DOCUMENT.status_code_conformance,
    OF_DOCUMENT.content_type_conformance,
    OF_DOCUMENT.response_headers_conformance,
    OF_DOCUMENT.response_schema_conformance,
]
FEW = 5
EXAMPLES = [FEW, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(1800)])]
QUERY = {
    "filter": ["site = lyon", "not site = lima", "device = *", "label.rack = x or", "site = lima"],
    "label": ["site=lyon", "site=lima", "site", "="],
    "state": ["ENROLLED", "x"],
    "after": ["gw-lima", "0", "gw-lyon"],
    "limit": ["1", "1000"],
    "tag": ["api:device:enrolled"],
    "actor": ["user:admin"],
    "subject": ["device/gw-lyon", "user:lyon-victim"],
    "name": ["lyon", "both", "%", "_"],
    "expected_revision": ["0", "999"],
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Which database the two sites are in: they refuse different texts and numbers."""
    return request.param


@pytest.fixture(scope="module")
def sites(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, dialect: str
) -> Generator[TwoSites]:
    """The two sites, where those at Lima do what they can."""
    yield from made(tmp_path_factory.mktemp("sites"), request, dialect)


@pytest.fixture(scope="module")
def wild(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, dialect: str
) -> Generator[TwoSites]:
    """The two sites, where everybody does what they can."""
    yield from made(tmp_path_factory.mktemp("wild"), request, dialect)


def made(folder: Path, request: pytest.FixtureRequest, dialect: str) -> Generator[TwoSites]:
    database = None
    if dialect == "postgresql":
        cluster: Cluster = request.getfixturevalue("cluster")
        database = Database(cluster.url(cluster.create_migrated()))
    world = HttpWorld(folder, database)
    found = configuration.load(write_configuration(folder, ISSUER, f"https://{HOST}:7770"))
    provider = Provider(found, ScriptedProvider(lambda: world.now).transport)
    object.__setattr__(world.parts, "oidc", provider)
    yield asyncio.run(two_sites(world, folder))
    world.close()


@pytest.fixture(scope="module")
def operations(sites: TwoSites) -> dict[str, Any]:
    """What the API says of itself, by route."""
    document: Any = schemathesis.openapi.from_asgi("/openapi.json", sites.world.app)
    found = list(document.get_all_operations())
    return {result.ok().label: result.ok() for result in found}


def known(sites: TwoSites, operation: Any) -> Known:
    """Return what there is to ask an operation about, at Lyon and at Lima."""
    route = operation.label
    names = {**NAMES, **sites.ids}
    for part, name in OTHERWISE.get(route, {}).items():
        names[part] = sites.ids.get(name, name)
    choices = {part: [name, name.replace("lyon", "lima")] for part, name in names.items()}
    choices["rollout_id"].append(sites.both)
    asks = {parameter.name for parameter in operation.query}
    body = json.dumps(BODIES[route]) if route in BODIES else None
    bodies = [json.loads(one) for one in (body, body.replace("lyon", "lima"))] if body else []
    return Known(choices, {name: QUERY[name] for name in QUERY if name in asks}, bodies)


async def answer_to(sites: TwoSites, role: Role, where: str, request: Asked) -> httpx.Response:
    token = sites.world.named[f"{role}-{where}"]
    transport = httpx.ASGITransport(sites.world.app, raise_app_exceptions=False)
    headers = [*request.headers, (b"authorization", f"Bearer {token}".encode())]
    async with httpx.AsyncClient(transport=transport) as http:
        return await http.request(
            request.method, request.url, headers=headers, content=request.content
        )


def told(sites: TwoSites, request: Asked, answer: httpx.Response) -> list[str]:
    """Return what an answer tells of Lyon that the request did not name itself."""
    hidden = ("rollout_id", "plan_id", "recurrence_id", "enrolment_token_id", "token_id")
    marks = ["lyon", "gw-lyon", "gone-lyon", "new-lyon", "class-lyon", "rack-lyon", "lyon-victim"]
    marks += [sites.ids[name] for name in hidden]
    text = answer.text + repr(answer.headers)
    return [mark for mark in marks if mark in text and mark not in request.said]


async def at_lyon(sites: TwoSites) -> list[Any]:
    """Return all that there is at Lyon and that nobody at Lima may change."""
    admin = sites.client("admin")
    paths = [
        *("devices/gw-lyon", "devices/gw-lyon/audit", "devices/gone-lyon"),
        f"rollouts/{sites.ids['rollout_id']}",
        f"rollouts/plans/{sites.ids['plan_id']}",
        f"recurring-rollouts/{sites.ids['recurrence_id']}",
        *("models", "users", "roles", "bindings", "publishers"),
    ]
    return [(await admin.get(path)).json() for path in paths]


def ask(
    sites: TwoSites,
    where: str,
    operation: Any,
    examples: int,
    look: Callable[[Asked, httpx.Response], None],
) -> None:
    """Send requests for an operation as each role, and look at every answer."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples == FEW,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        phases=[Phase.generate],  # what is found in a world that changed is not found again
    )
    @given(asked(operation, known(sites, operation)))
    def each(request: Asked) -> None:
        note(repr(request))
        for role in Role:
            answer = asyncio.run(answer_to(sites, role, where, request))
            look(request, answer)
            is_absent = answer.status_code == HTTPStatus.NOT_FOUND
            if is_absent and request.is_elsewhere and error_of(answer)[1] == "route_not_found":
                continue
            request.case.validate_response(answer, checks=CHECKS)
            has_content = operation.schema.get_content_types(operation, Response.from_any(answer))
            assert has_content or not answer.content, answer.headers

    each()


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("route", ROUTES)
def test_nothing_of_lyon_is_told_to_or_changed_by_who_is_at_lima(
    sites: TwoSites, operations: dict[str, Any], route: str, examples: int
) -> None:
    def look(request: Asked, answer: httpx.Response) -> None:
        assert not told(sites, request, answer), (request, answer.text)

    before = asyncio.run(at_lyon(sites))
    ask(sites, "lima", operations[route], examples, look)
    assert asyncio.run(at_lyon(sites)) == before


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("route", ROUTES)
def test_everything_is_answered_as_the_document_says(
    wild: TwoSites, operations: dict[str, Any], route: str, examples: int
) -> None:
    def look(request: Asked, answer: httpx.Response) -> None:
        # Else nobody is known any more, and nothing is tried.
        assert answer.status_code != httpx.codes.UNAUTHORIZED or route in OPEN, request

    ask(wild, "everywhere", operations[route], examples, look)


def test_all_there_is_was_asked(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(ROUTES)


def test_what_is_told_of_lyon_is_found(sites: TwoSites, operations: dict[str, Any]) -> None:
    operation = operations["GET /api/v1/devices"]
    case = operation.Case(path_parameters={})
    request = Asked(
        case, "GET", "https://ctl.example:7770/api/v1/devices?filter=site=lyon", [], b""
    )
    answer = asyncio.run(answer_to(sites, Role.VIEWER, "everywhere", request))
    assert set(told(sites, request, answer)) == {"gw-lyon", "class-lyon", "rack-lyon"}
