"""A fleet at two sites behind the API, and people who may do something at one, or at both.

All that is at Lyon has `lyon` in its name: whoever may see nothing there must never read the word.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sprat_controller.access.policy import Role
from sprat_controller.store.tables import Device
from sqlmodel import col, update

from simulators.api_fleet import enrol, publish
from simulators.http_world import Client, HttpWorld

LYON, LIMA = "site = lyon", "site = lima"
WHERE = {"everywhere": "", "lyon": LYON, "lima": LIMA}
WHAT: dict[str, Any] = {"model": "talk", "release": "1.0.0", "alias": "assistant"}
EVERY_NIGHT = {"model": "talk", "channel": "stable", "alias": "assistant", "cron": "0 2 * * *"}


def at(place: str) -> dict[str, Any]:
    """Return the body of a plan for all devices of a place, by their label."""
    return {**WHAT, "labels": {"site": place}}


@dataclass
class TwoSites:
    """The world, who is in it, and what there is at Lyon by the name of its part of an address."""

    world: HttpWorld
    ids: dict[str, str] = field(default_factory=dict[str, str])
    both: str = ""  # a rollout to both sites

    def client(self, role: str, where: str = "everywhere") -> Client:
        """Return a client of somebody with a role at a place."""
        return self.world.client_of(self.world.named[f"{role}-{where}"])

    async def make(self, path: str, body: object) -> dict[str, Any]:
        """Have the administrator make something."""
        return made(await self.world.client().post(path, body))

    async def fresh(self, what: str) -> str:
        """Make another thing at Lyon that a call may remove, and return its id."""
        if what == "binding":
            count = len(self.ids)
            self.ids[f"binding {count}"] = ""
            scope = f"{LYON} and label.number = {count}"
            body = {"subject": "lyon-victim", "role": "viewer", "scope": scope}
            return (await self.make("bindings", body))["id"]
        if what == "channel":
            put = "/api/v1/models/talk/channels/beta/releases/1.0.0"
            assert (await self.world.client().send("PUT", put)).is_success
            return "beta"
        body = {**EVERY_NIGHT, "labels": {"site": "lyon"}, "name": "lyon"}
        return (await self.make("recurring-rollouts", body))["id"]


async def two_sites(world: HttpWorld, folder: Path) -> TwoSites:
    """Make the fleet, all that there can be at Lyon, and the people."""
    made_here = TwoSites(world)
    for place in ("lyon", "lima"):
        await enrol(world, f"gw-{place}", site=place, rack=f"rack-{place}")
        of_class = update(Device).where(col(Device.id) == f"gw-{place}")
        with world.parts.database.transaction() as session:
            session.exec(of_class.values(hardware_class=f"class-{place}"))
    await enrol(world, "gone-lyon", site="lyon")
    await world.client().send("DELETE", "/api/v1/devices/gone-lyon")
    published = await publish(world, folder)
    for role in Role:
        for where, scope in WHERE.items():
            name = f"{role}-{where}"
            world.named[name] = world.admit(name, role, scope)
    ids = made_here.ids
    ids["sha256"] = published["variants"][0]["digest"]
    ids["rollout_id"] = (await made_here.make("rollouts", {**at("lyon"), "name": "lyon"}))["id"]
    ids["plan_id"] = (await made_here.make("rollouts/plans", at("lyon")))["id"]
    made_here.both = (await made_here.make("rollouts", {**WHAT, "name": "both"}))["id"]
    ids["recurrence_id"] = await made_here.fresh("recurrence")
    body: dict[str, Any] = {"device_id": "new-lyon", "labels": {"site": "lyon"}}
    ids["enrolment_token_id"] = (await made_here.make("enrolment-tokens", body))["id"]
    await made_here.make("users", {"name": "lyon-victim"})
    await made_here.make("roles", {"name": "lyon-role", "permissions": ["fleet:read"]})
    await made_here.make("bindings", {"subject": "lyon-victim", "role": "lyon-role"})
    body = {"name": "lyon-token", "role": "viewer", "subject": "lyon-victim"}
    ids["token_id"] = (await made_here.make("tokens", body))["id"]
    return made_here


def made(answer: httpx.Response) -> dict[str, Any]:
    """Return what was made."""
    assert answer.status_code == httpx.codes.CREATED, answer.text
    return answer.json()
