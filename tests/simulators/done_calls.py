"""For each route that changes something: a call that does so, about new things at Lyon.

`CALLS` has one for every route; what it needs it makes first, as the administrator. Whoever adds a
route adds its call here, and then its row of `tests/controller/api/route_events.txt`.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# The library's documented API; it re-exports it without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner
from sprat_controller.access.oidc import configuration
from sprat_controller.access.oidc.provider import Provider
from sprat_controller.publisher.signing import release_prefix, without_release
from sprat_controller.store.tables import Execution
from sprat_controller.trust import repository
from sprat_proto import canonical, notes
from sprat_proto.approval import ApproverPolicy, GroupPolicy
from sprat_proto.audit_events import Tag
from sprat_proto.trust import IMAGE, publisher_role
from sqlmodel import col, update

from simulators import api_fleet
from simulators.device_keys import (
    DeviceKeys,
    csr_of,
    enrolment_json,
    new_key,
    renewal_json,
    serial_in,
)
from simulators.founded import next_targets
from simulators.http_world import Client
from simulators.openid_provider import write_configuration
from simulators.scripted_provider import ScriptedProvider
from simulators.token_maker import ISSUER
from simulators.two_sites import EVERY_NIGHT, TwoSites, at, made

V1: Final = "/api/v1"
PASSWORD: Final = "seven herons at low tide"
AT_LYON: Final = {"labels": {"site": "lyon"}}


@dataclass(frozen=True)
class Call:
    """A request that changes something, and who may make it."""

    path: str
    body: Any = None
    content: bytes | None = None
    form: dict[str, str] | None = None
    client: Client | None = None  # None: the administrator's
    actor: str = "user:admin"


@dataclass
class Scene:
    """The two sites, and names that nothing has yet."""

    sites: TwoSites
    folder: Path
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(2))

    @property
    def admin(self) -> Client:
        return self.sites.world.client()

    def name(self) -> str:
        return f"lyon-{next(self._numbers)}"

    async def make(self, path: str, body: object) -> Any:
        return await self.sites.make(path, body)

    async def device(self) -> str:
        name = self.name()
        await api_fleet.enrol(self.sites.world, name, site="lyon")
        return name

    async def user(self) -> str:
        return (await self.make("users", {"name": self.name()}))["name"]

    async def with_password(self) -> str:
        name = await self.user()
        answer = await self.admin.send(
            "PUT", f"{V1}/users/{name}/password", json={"password": PASSWORD}
        )
        assert answer.is_success, answer.text
        return name

    async def person(self) -> Client:
        """Return a client of somebody who signed in."""
        name = await self.with_password()
        login = await self.sites.world.client(None).post(
            "login", {"name": name, "password": PASSWORD}
        )
        return self.sites.world.client_of(login.json()["token"])

    async def rollout(self, *verbs: str, **more: Any) -> str:
        """Return a new rollout after some verbs; `run`: the planner did what it could."""
        id_: str = (await self.make("rollouts", {**at("lyon"), "name": self.name(), **more}))["id"]
        for verb in verbs:
            if verb == "run":
                api_fleet.run(self.sites.world)
            else:
                answer = await self.admin.post(f"rollouts/{id_}/{verb}")
                assert answer.is_success, answer.text
        return id_

    async def waiting(self) -> str:
        """Return a rollout of somebody else that waits for one approval."""
        world = self.sites.world
        world.policy = ApproverPolicy(1, [], [GroupPolicy("default", "controller", 1)])
        operator = self.sites.client("operator")
        body = {**at("lyon"), "name": self.name()}
        id_ = made(await operator.post("rollouts", body))["id"]
        started = await operator.post(f"rollouts/{id_}/start")
        assert started.json()["state"] == "WAITING_FOR_APPROVAL", started.text
        return id_

    def metadata(self) -> bytes:
        """Return the newest metadata of the publisher `me`."""
        with self.sites.world.parts.database.reading() as session:
            return repository.current(session, IMAGE).newest(publisher_role("me"))[1]

    async def release(self) -> dict[str, str]:
        """Upload a new release but for the last step."""
        number = next(self._numbers)
        path = self.folder / "model.gguf"
        return await api_fleet.upload(
            self.sites.world, path, f"1.{number}.0", number, self.metadata()
        )


Recipe = Callable[[Scene], Awaitable[Call]]
CALLS: Final[dict[str, Recipe]] = {}


def of(route: str) -> Callable[[Recipe], Recipe]:
    """Say which route a call is of."""

    def keep(recipe: Recipe) -> Recipe:
        CALLS[route] = recipe
        return recipe

    return keep


# Who may what


@of(f"POST {V1}/users")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/users", {"name": scene.name()})


@of(f"POST {V1}/users/{{user}}/disable")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/users/{await scene.user()}/disable")


@of(f"POST {V1}/users/{{user}}/enable")
async def _(scene: Scene) -> Call:
    name = await scene.user()
    await scene.admin.post(f"users/{name}/disable")
    return Call(f"{V1}/users/{name}/enable")


@of(f"PUT {V1}/users/{{user}}/password")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/users/{await scene.user()}/password", {"password": PASSWORD})


@of(f"POST {V1}/login")
async def _(scene: Scene) -> Call:
    name = await scene.with_password()
    stranger = scene.sites.world.client(None)
    body = {"name": name, "password": PASSWORD}
    return Call(f"{V1}/login", body, client=stranger, actor=f"user:{name}")


@of(f"POST {V1}/logout")
async def _(scene: Scene) -> Call:
    client = await scene.person()
    who = (await client.get("whoami")).json()["subject"]
    return Call(f"{V1}/logout", client=client, actor=who)


@of(f"DELETE {V1}/sessions/{{session_id}}")
async def _(scene: Scene) -> Call:
    client = await scene.person()
    (mine,) = (await client.get("sessions")).json()["items"]
    return Call(f"{V1}/sessions/{mine['id']}")


@of(f"POST {V1}/roles")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/roles", {"name": scene.name(), "permissions": ["fleet:read"]})


async def _role(scene: Scene) -> str:
    body = {"name": scene.name(), "permissions": ["fleet:read"]}
    return (await scene.make("roles", body))["name"]


@of(f"PATCH {V1}/roles/{{role}}")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/roles/{await _role(scene)}", {"permissions": ["rollouts:read"]})


@of(f"DELETE {V1}/roles/{{role}}")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/roles/{await _role(scene)}")


@of(f"POST {V1}/bindings")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/bindings", {"subject": await scene.user(), "role": "viewer"})


@of(f"DELETE {V1}/bindings/{{binding_id}}")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/bindings/{await scene.sites.fresh('binding')}")


@of(f"POST {V1}/tokens")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/tokens", {"name": scene.name(), "role": "viewer"})


@of(f"DELETE {V1}/tokens/{{token_id}}")
async def _(scene: Scene) -> Call:
    token = await scene.make("tokens", {"name": scene.name(), "role": "viewer"})
    return Call(f"{V1}/tokens/{token['id']}")


# The fleet


@of(f"POST {V1}/enrolment-tokens")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/enrolment-tokens", {"device_id": scene.name(), **AT_LYON})


async def _claim(scene: Scene) -> dict[str, Any]:
    return await scene.make("enrolment-tokens", {"device_id": scene.name(), **AT_LYON})


@of(f"DELETE {V1}/enrolment-tokens/{{token_id}}")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/enrolment-tokens/{(await _claim(scene))['id']}")


@of("POST /enrol")
async def _(scene: Scene) -> Call:
    claim = await _claim(scene)
    stranger, actor = scene.sites.world.client(None), f"device:{claim['device_id']}"
    return Call("/enrol", enrolment_json(claim["token"]), client=stranger, actor=actor)


@of("POST /enrol/renew")
async def _(scene: Scene) -> Call:
    claim, keys = await _claim(scene), DeviceKeys()
    stranger, name = scene.sites.world.client(None), claim["device_id"]
    enrolled = await stranger.send("POST", "/enrol", json=enrolment_json(claim["token"], keys))
    serial = serial_in(enrolled.json()["certificate"])
    body = renewal_json(keys.renewal(name, serial, csr_of(new_key())))
    return Call("/enrol/renew", body, client=stranger, actor=f"device:{name}")


@of(f"PATCH {V1}/devices/{{device_id}}")
async def _(scene: Scene) -> Call:
    labels = {"site": "lyon", "floor": "2"}
    return Call(f"{V1}/devices/{await scene.device()}", {"labels": labels})


@of(f"DELETE {V1}/devices/{{device_id}}")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/devices/{await scene.device()}")


@of(f"POST {V1}/devices/{{device_id}}/release-quarantine")
async def _(scene: Scene) -> Call:
    body = {"accept_older": True}
    return Call(f"{V1}/devices/{await scene.device()}/release-quarantine", body)


# Trust, models and blobs


@of(f"POST {V1}/trust/{{repository}}")
async def _(scene: Scene) -> Call:
    world = scene.sites.world
    assert world.image_keys is not None
    data = next_targets(world, world.image_keys, scene.name(), CryptoSigner.generate_ed25519())
    sha256 = canonical.sha256_hex(data)
    await scene.admin.put_blob(sha256, data)
    with world.parts.database.reading() as session:
        version = repository.current(session, IMAGE).newest("targets")[0] + 1
    return Call(f"{V1}/trust/image", {"files": {f"{version}.targets.json": sha256}})


@of(f"PUT {V1}/blobs/sha256/{{sha256}}")
async def _(scene: Scene) -> Call:
    data = scene.name().encode()
    return Call(f"{V1}/blobs/sha256/{canonical.sha256_hex(data)}", content=data)


@of(f"POST {V1}/models/{{model}}/releases")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/models/talk/releases", await scene.release())


@of(f"POST {V1}/models/{{model}}/releases/{{release}}/retire")
async def _(scene: Scene) -> Call:
    body = await scene.release()
    answer = await scene.admin.post("models/talk/releases", body)
    assert answer.is_success, answer.text
    world, release = scene.sites.world, body["release"]
    prefix = release_prefix("me", "talk", release)
    data = without_release(scene.metadata(), prefix, world.publishers["me"], world.now)
    sha256 = canonical.sha256_hex(data)
    await scene.admin.put_blob(sha256, data)
    said = {"publisher": "me", "metadata": sha256}
    return Call(f"{V1}/models/talk/releases/{release}/retire", said)


@of(f"PUT {V1}/models/{{model}}/channels/{{channel}}/releases/{{release}}")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/models/talk/channels/{scene.name()}/releases/1.0.0")


@of(f"DELETE {V1}/models/{{model}}/channels/{{channel}}/releases/{{release}}")
async def _(scene: Scene) -> Call:
    await scene.sites.fresh("channel")
    return Call(f"{V1}/models/talk/channels/beta/releases/1.0.0")


# Rollouts


@of(f"POST {V1}/rollouts/plan")
async def _(_: Scene) -> Call:
    return Call(f"{V1}/rollouts/plan", at("lyon"))


@of(f"POST {V1}/rollouts/plans")
async def _(_: Scene) -> Call:
    return Call(f"{V1}/rollouts/plans", at("lyon"))


@of(f"POST {V1}/rollouts/plans/{{plan_id}}/apply")
async def _(scene: Scene) -> Call:
    plan = await scene.make("rollouts/plans", at("lyon"))
    return Call(f"{V1}/rollouts/plans/{plan['id']}/apply", {})


@of(f"POST {V1}/rollouts")
async def _(_: Scene) -> Call:
    return Call(f"{V1}/rollouts", at("lyon"))


@of(f"PATCH {V1}/rollouts/{{rollout_id}}")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/rollouts/{await scene.rollout()}", {"name": scene.name()})


def _verb(verb: str, *before: str) -> None:
    @of(f"POST {V1}/rollouts/{{rollout_id}}/{verb}")
    async def _(scene: Scene) -> Call:
        return Call(f"{V1}/rollouts/{await scene.rollout(*before)}/{verb}")


_verb("start")
_verb("pause", "start")
_verb("resume", "start", "pause")
_verb("stop", "start")
_verb("roll-back", "start", "run")


@of(f"POST {V1}/rollouts/{{rollout_id}}/promote")
async def _(scene: Scene) -> Call:
    groups = {"groups": [{"devices": 1, "waits_for_promotion": True}, {}]}
    id_ = await scene.rollout("start", "run", strategy=groups)
    return Call(f"{V1}/rollouts/{id_}/promote", {"group": 0})


@of(f"POST {V1}/rollouts/{{rollout_id}}/retry-failed")
async def _(scene: Scene) -> Call:
    id_ = await scene.rollout("start", "run")
    failed = update(Execution).where(col(Execution.rollout_id) == id_).values(state="FAILED")
    with scene.sites.world.parts.database.transaction() as session:
        session.exec(failed)
    return Call(f"{V1}/rollouts/{id_}/retry-failed")


@of(f"POST {V1}/rollouts/{{rollout_id}}/approve")
async def _(scene: Scene) -> Call:
    id_ = await scene.waiting()
    shown = (await scene.admin.get(f"rollouts/{id_}/approval")).json()
    sha256 = canonical.sha256_hex(shown["spec"].encode())
    return Call(f"{V1}/rollouts/{id_}/approve", {"spec_sha256": sha256})


@of(f"POST {V1}/rollouts/{{rollout_id}}/deny")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/rollouts/{await scene.waiting()}/deny", {"reason": "too soon"})


_REASON = {"reason": "the model leaks secrets"}


@of(f"POST {V1}/rollouts/{{rollout_id}}/override-approval")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/rollouts/{await scene.waiting()}/override-approval", _REASON)


@of(f"POST {V1}/rollouts/{{rollout_id}}/review-override")
async def _(scene: Scene) -> Call:
    id_ = await scene.waiting()
    breaker = scene.sites.world.client_of(scene.sites.world.admit(scene.name(), "admin"))
    await breaker.post(f"rollouts/{id_}/override-approval", _REASON)
    return Call(f"{V1}/rollouts/{id_}/review-override", {"verdict": "rejected"})


@of(f"POST {V1}/recurring-rollouts")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/recurring-rollouts", {**EVERY_NIGHT, **AT_LYON, "name": scene.name()})


async def _recurrence(scene: Scene) -> str:
    return await scene.sites.fresh("recurrence")


@of(f"PATCH {V1}/recurring-rollouts/{{recurrence_id}}")
async def _(scene: Scene) -> Call:
    path = f"{V1}/recurring-rollouts/{await _recurrence(scene)}"
    return Call(path, {"name": scene.name()})


@of(f"DELETE {V1}/recurring-rollouts/{{recurrence_id}}")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/recurring-rollouts/{await _recurrence(scene)}")


@of(f"POST {V1}/recurring-rollouts/{{recurrence_id}}/pause")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/recurring-rollouts/{await _recurrence(scene)}/pause")


@of(f"POST {V1}/recurring-rollouts/{{recurrence_id}}/resume")
async def _(scene: Scene) -> Call:
    id_ = await _recurrence(scene)
    await scene.admin.post(f"recurring-rollouts/{id_}/pause")
    return Call(f"{V1}/recurring-rollouts/{id_}/resume")


# How long the log is kept


@of(f"POST {V1}/audit/retention")
async def _(scene: Scene) -> Call:
    body = {"days": 200, "tag": Tag.DEVICE_LABELLED.value}
    await scene.admin.send("POST", f"{V1}/audit/retention", json={**body, "days": 300})
    return Call(f"{V1}/audit/retention", body)


@of(f"DELETE {V1}/audit/retention")
async def _(scene: Scene) -> Call:
    tag = Tag.ROLE_CHANGED.value
    await scene.admin.send("POST", f"{V1}/audit/retention", json={"days": 200, "tag": tag})
    return Call(f"{V1}/audit/retention?tag={tag}")


async def _hold(scene: Scene) -> dict[str, str]:
    return {"device_id": await scene.device(), "reason": "a case"}


@of(f"POST {V1}/audit/holds")
async def _(scene: Scene) -> Call:
    return Call(f"{V1}/audit/holds", await _hold(scene))


@of(f"POST {V1}/audit/holds/{{hold_id}}/release")
async def _(scene: Scene) -> Call:
    hold = await scene.make("audit/holds", await _hold(scene))
    return Call(f"{V1}/audit/holds/{hold['id']}/release", {"reason": "closed"})


# Signing in at a provider


def _provider(scene: Scene) -> ScriptedProvider:
    """Have people sign in at a provider, which knows one of them."""
    parts = scene.sites.world.parts
    provider = ScriptedProvider(lambda: scene.sites.world.now)
    provider.claims |= {"sub": scene.name(), "sid": scene.name()}
    said = configuration.load(write_configuration(scene.folder, ISSUER, "https://ctl.example"))
    object.__setattr__(parts, "oidc", Provider(said, provider.transport))
    return provider


async def _begun(scene: Scene) -> str:
    """Begin a sign-in without a browser, and return its handle."""
    answer = await scene.sites.world.client(None).send("POST", f"{V1}/oidc/device")
    assert answer.is_success, answer.text
    scene.sites.world.later(seconds=6)
    return answer.json()["handle"]


async def _came_in(scene: Scene) -> str:
    """Sign in without a browser, and return who did."""
    handle = await _begun(scene)
    answer = await scene.sites.world.client(None).post("oidc/device/token", {"handle": handle})
    assert answer.is_success, answer.text
    return answer.json()["login"]["subject"]


@of(f"POST {V1}/oidc/device")
async def _(scene: Scene) -> Call:
    _provider(scene)
    return Call(f"{V1}/oidc/device", client=scene.sites.world.client(None))


@of(f"POST {V1}/oidc/device/token")
async def _(scene: Scene) -> Call:
    _provider(scene)
    who, nobody = await _came_in(scene), scene.sites.world.client(None)
    body = {"handle": await _begun(scene)}
    return Call(f"{V1}/oidc/device/token", body, client=nobody, actor=who)


@of(f"POST {V1}/oidc/backchannel-logout")
async def _(scene: Scene) -> Call:
    provider = _provider(scene)
    await _came_in(scene)
    claims, nobody = provider.claims, scene.sites.world.client(None)
    token = provider.logout_token(jti=scene.name(), sub=claims["sub"], sid=claims["sid"])
    path = f"{V1}/oidc/backchannel-logout"
    return Call(path, form={"logout_token": token}, client=nobody, actor="provider")


# What only looks, or keeps what others signed


@of(f"POST {V1}/fit")
async def _(_: Scene) -> Call:
    return Call(f"{V1}/fit", {"model": "talk", "device": "gw-lyon", "context": 256})


@of(f"POST {V1}/fit/matrix")
async def _(_: Scene) -> Call:
    return Call(f"{V1}/fit/matrix", {"models": ["talk"], "context": 256})


@of(f"POST {V1}/bundles")
async def _(scene: Scene) -> Call:
    device = await scene.device()
    await scene.rollout("start", "run", labels={}, devices=[device])
    return Call(f"{V1}/bundles", {"devices": [device]})


@of(f"POST {V1}/audit/cosignatures")
async def _(scene: Scene) -> Call:
    signed = notes.read_note((await scene.admin.get("audit/checkpoint")).text)
    size = notes.read_checkpoint(signed.text).size
    key = Ed25519PrivateKey.generate()
    vkey = str(notes.verifier_key(key, "w", notes.COSIGNER))
    line = str(notes.cosign(key, "w", signed.text, 7))
    body = {"size": size, "vkey": vkey, "line": line}
    return Call(f"{V1}/audit/cosignatures", body)
