"""The API's own pages work on a network that reaches nothing else."""

from __future__ import annotations

import re
from typing import Final

from simulators.http_world import HttpWorld

LINKED: Final = re.compile(r"""(?:src|href)=["']([^"']+)["']""")


async def test_the_page_and_all_it_loads_come_from_the_controller(shared: HttpWorld) -> None:
    stranger = shared.client(None)
    page = await stranger.send("GET", "/docs")
    assert page.status_code == 200
    linked = LINKED.findall(page.text)
    assert len(linked) >= 3, linked
    for address in linked:
        assert address.startswith("/"), address
        assert (await stranger.send("GET", address)).status_code == 200, address
    assert "/openapi.json" in page.text


async def test_the_description_names_every_noun_and_how_to_authenticate(shared: HttpWorld) -> None:
    described = (await shared.client(None).send("GET", "/openapi.json")).json()
    assert described["components"]["securitySchemes"]
    for noun in ("devices", "enrolment-tokens", "models", "publishers", "rollouts", "audit"):
        assert f"/api/v1/{noun}" in described["paths"]
