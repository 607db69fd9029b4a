"""A NUL in an address or a body is refused in one sentence, by each route, over each database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from simulators.http_world import HttpWorld, error_of
from simulators.lyon_calls import BODIES
from sprat_controller.api import text

V1 = "/api/v1"
PART = re.compile(r"\{(\w+)\}")


async def routes(world: HttpWorld) -> list[tuple[str, str]]:
    document = (await world.client().send("GET", "/openapi.json")).json()
    return [
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    ]


def with_nul(value: Any) -> Iterator[Any]:
    """Return a value with a NUL in one of its texts, for each of them."""
    match value:
        case str():
            yield f"{value}\0"
        case dict():
            fields = cast("dict[str, Any]", value)
            for name, one in fields.items():
                yield from ({**fields, name: changed} for changed in with_nul(one))
        case list():
            several = cast("list[Any]", value)
            for at, one in enumerate(several):
                for changed in with_nul(one):
                    yield [*several[:at], changed, *several[at + 1 :]]
        case _:
            return


async def test_no_name_in_an_address_has_a_nul(any_world: HttpWorld) -> None:
    client = any_world.client()
    for method, path in await routes(any_world):
        for name in PART.findall(path):
            asked = PART.sub("x", path.replace(f"{{{name}}}", "a%00b"))
            answer = await client.send(method, asked)
            assert error_of(answer) == (422, "invalid_request"), (method, path)
            assert f"{name}: {text.EXPECTED}, found one" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "devices?filter=%00",
        "devices?label=site=%00",
        "audit?tag=a%00b",
        "audit?%00=1",
        "users?x=%00",
    ],
)
async def test_no_query_has_a_nul(any_world: HttpWorld, path: str) -> None:
    answer = await any_world.client().get(path)
    assert error_of(answer) == (422, "invalid_request")


@pytest.mark.parametrize("route", [route for route in BODIES if BODIES[route]])
async def test_no_text_of_a_body_has_a_nul(any_world: HttpWorld, route: str) -> None:
    method, _, path = route.partition(" ")
    asked, client = PART.sub("x", path), any_world.client()
    for body in with_nul(BODIES[route]):
        answer = await client.send(method, asked, json=body)
        assert error_of(answer) == (422, "invalid_request"), body
        assert text.EXPECTED in answer.text or "pattern" in answer.text, answer.text


async def test_a_password_is_not_shown_for_a_nul_beside_it(any_world: HttpWorld) -> None:
    body = {"name": "ann\0", "password": "seven herons"}
    answer = await any_world.client(None).post("login", body)
    assert error_of(answer) == (422, "invalid_request")
    assert "heron" not in answer.text
