"""The controller's operators' API in memory, as an httpx transport: what the CLI's tests talk to.

It answers as the API's contract says and keeps what it was told, so that a test can look.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any, Final

import httpx
from sprat_proto import canonical, manifest

from simulators.audit_log import ORIGIN, AuditLog

Json = dict[str, Any]
ADMIN: Final = "sprat_admin"
VIEWER: Final = "sprat_viewer"
URL: Final = "https://controller.test:7770"
PASSWORD: Final = "seven herons at low tide"
CREATED: Final = "2026-11-23T10:00:00+00:00"

Q8: Final[Json] = {
    "variant": "q8_0",
    "digest": "8" * 64,
    "fits": False,
    "code": "INSUFFICIENT_MEMORY",
    "message": "needs 121 MiB of memory, the budget is 115 MiB",
    "need": {},
}
Q4: Final[Json] = {
    "variant": "q4_0",
    "digest": "4" * 64,
    "fits": True,
    "code": None,
    "message": "fits",
    "need": {},
}


class RefusalError(Exception):
    """What the API answers instead."""

    def __init__(self, status: int, code: str, message: str, check: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.details = {} if check is None else {"check": check}


class OperatorApi:
    """The API's state and its routes."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.refusing: list[str] = []  # checks that the next releases do not pass
        self.bodies: list[Json] = []
        self.fitting: str | None = "q4_0"  # what fit chooses
        self.lists: dict[str, list[Json]] = {
            "users": [],
            "roles": [],
            "bindings": [],
            "tokens": [],
            "sessions": [],
            "enrolment-tokens": [],
            "publishers": [],
            "rollouts": [],
            "recurring-rollouts": [],
        }
        self.devices: dict[str, Json] = {}
        self.models: dict[str, list[Json]] = {}
        self.channels: dict[tuple[str, str], list[str]] = {}  # releases by model and channel
        self.blobs: dict[str, bytes] = {}
        # Published metadata by repository and name; a test founds it (`simulators.image_keys`).
        self.trust: dict[str, dict[str, bytes]] = {"image": {}, "director": {}}
        # What a controller would do with uploaded metadata; by default it is believed.
        self.on_metadata: Callable[[str, dict[str, bytes]], None] | None = None
        self.plans: dict[str, Json] = {}  # saved ones, by id
        self.specs: dict[str, str] = {}  # frozen specifications, by rollout
        self.strategies: dict[str, str] = {}  # and the documents that they bind
        self.bundle: list[tuple[str, bytes]] = []  # the small members of any bundle
        self.sizes: dict[str, int] = {}  # of blobs that have another than they should
        self.audit: list[Json] = []
        self.audit_ok = True
        self.notes: dict[int, str] = {}  # older checkpoints, by size
        self.restored: list[str] = []  # statements of the log's signer
        self.log = AuditLog()
        self.page_size = 1000
        # What a watcher sees one after the other: the state and the executions of the rollout.
        self.moments: list[tuple[str, list[Json]]] = [("FINISHED", [])]
        self.answer: Callable[[httpx.Request], httpx.Response] | None = None

    @property
    def transport(self) -> httpx.MockTransport:
        """What an httpx client is given."""
        return httpx.MockTransport(self.handle)

    def add_device(self, device_id: str, **facts: Any) -> None:
        """Make a device known."""
        self.devices[device_id] = {
            "id": device_id,
            "state": "IN_SYNC",
            "online": True,
            "simulated": False,
            "labels": {},
            "running": {},
            "last_seen_at": CREATED,
            **facts,
        }

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.calls.append((request.method, request.url.path))
        if self.answer is not None:
            return self.answer(request)
        try:
            self._authenticate(request)
            return self._route(request)
        except RefusalError as refusal:
            error: Json = {"code": refusal.code, "message": refusal.message}
            error["details"] = refusal.details
            return httpx.Response(
                refusal.status, json={"error": error}, headers={"x-request-id": "req-1"}
            )

    def _authenticate(self, request: httpx.Request) -> None:
        if request.url.path.startswith(("/api/v1/login", "/api/v1/oidc/")):
            return
        known = request.headers.get("authorization") in (f"Bearer {ADMIN}", f"Bearer {VIEWER}")
        if not known:
            raise RefusalError(401, "not_authenticated", "expected a valid token, found another")
        if VIEWER in request.headers["authorization"] and request.method not in ("GET", "HEAD"):
            raise RefusalError(403, "not_allowed", "a viewer may not do this")

    def _route(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1/")
        if path.lstrip("/").startswith("blobs/sha256/"):
            return self._blob(request, path.rpartition("/")[2])
        body: Json = json.loads(request.content) if request.content else {}
        if body:
            self.bodies.append(body)
        for method, pattern, route in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                return route(self, request, body, *match.groups())
        raise RefusalError(404, "not_found", f"there is no {path}")

    def _blob(self, request: httpx.Request, sha256: str) -> httpx.Response:
        if request.method == "HEAD":
            return httpx.Response(200 if sha256 in self.blobs else 404)
        if request.method == "GET":
            if sha256 not in self.blobs:
                raise RefusalError(404, "blob_not_found", f"there is no blob {sha256}")
            return httpx.Response(200, content=self.blobs[sha256])
        data = request.read()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise RefusalError(422, "digest_mismatch", f"expected {sha256}, found other bytes")
        self.blobs[sha256] = data
        return httpx.Response(201, json={"sha256": sha256, "size": len(data)})

    def _page(self, request: httpx.Request, items: list[Json]) -> httpx.Response:
        start = int(request.url.params.get("after", 0))
        size = min(int(request.url.params["limit"]), self.page_size)
        following = start + size if start + size < len(items) else None
        return httpx.Response(200, json={"items": items[start : start + size], "next": following})

    def whoami(self, _request: httpx.Request, _body: Json) -> httpx.Response:
        answer: Json = {"subject": "user:root", "name": "root", "permissions": []}
        answer["roles"] = [{"role": "admin", "scope": ""}]
        answer |= {"token": "t-1", "token_role": "admin", "token_scope": ""}
        return httpx.Response(200, json=answer)

    def login(self, request: httpx.Request, body: Json) -> httpx.Response:
        if "authorization" in request.headers or body["password"] != PASSWORD:
            raise RefusalError(401, "login_failed", "expected a user and their password")
        made = {"id": "s-1", "subject": "user:root", "expires_at": CREATED}
        return httpx.Response(200, json={**made, "token": ADMIN, "csrf": None})

    def done(self, _request: httpx.Request, _body: Json, *_names: str) -> httpx.Response:
        return httpx.Response(204)

    def list_of(self, request: httpx.Request, _body: Json, kind: str) -> httpx.Response:
        return self._page(request, self.lists[kind])

    def create(self, _request: httpx.Request, body: Json, kind: str) -> httpx.Response:
        made = {"id": f"id-{len(self.lists[kind]) + 1}", "created_at": CREATED, **body}
        self.lists[kind].append(made)
        return httpx.Response(201, json=made | {"token": f"secret-{made['id']}"})

    def delete(self, _request: httpx.Request, _body: Json, kind: str, one: str) -> httpx.Response:
        self._find(self.lists[kind], one, kind)
        return httpx.Response(204)

    def change(
        self, _request: httpx.Request, body: Json, kind: str, one: str, _verb: str = ""
    ) -> httpx.Response:
        found = self._find(self.lists[kind], one, kind)
        found.update(body)
        return httpx.Response(200, json=found)

    def list_devices(self, request: httpx.Request, _body: Json) -> httpx.Response:
        wanted = [label.split("=") for label in request.url.params.get_list("label")]
        state = request.url.params.get("state")
        found = [
            device
            for device in self.devices.values()
            if all(device["labels"].get(key) == value for key, value in wanted)
            and state in (None, device["state"])
        ]
        return self._page(request, found)

    def device(self, request: httpx.Request, body: Json, name: str) -> httpx.Response:
        device = self._find(list(self.devices.values()), name, "device")
        if request.method == "DELETE":
            del self.devices[name]
            return httpx.Response(204)
        device.update(body)
        return httpx.Response(200, json=device)

    def why(self, _request: httpx.Request, _body: Json, name: str) -> httpx.Response:
        self._find(list(self.devices.values()), name, "device")
        answer = {"alias": "assistant", "code": "WAITING_TURN", "message": "it is next"}
        more = {"then": "it starts", "at": None, "do": "nothing", "rollout_id": "r-1"}
        return httpx.Response(200, json={"items": [{**answer, **more}], "next": None})

    def release_device(self, _request: httpx.Request, body: Json, name: str) -> httpx.Response:
        device = self._find(list(self.devices.values()), name, "device")
        device.update({"quarantined_at": None, "accepts_older": body["accept_older"]})
        return httpx.Response(200, json=device)

    def list_models(self, request: httpx.Request, _body: Json) -> httpx.Response:
        models = [{"model": model, "releases": found} for model, found in self.models.items()]
        return self._page(request, models)

    def model(self, _request: httpx.Request, _body: Json, model: str) -> httpx.Response:
        if model not in self.models:
            raise RefusalError(404, "not_found", f"there is no model {model}")
        return httpx.Response(200, json={"model": model, "releases": self.models[model]})

    def release(self, _request: httpx.Request, _body: Json, model: str, at: str) -> httpx.Response:
        for found in self.models.get(model, []):
            if found["release"] == at:
                return httpx.Response(200, json={"model": model, **found})
        raise RefusalError(404, "not_found", f"there is no release {model}@{at}")

    def publish(self, _request: httpx.Request, body: Json, model: str) -> httpx.Response:
        releases = self.models.setdefault(model, [])
        if any(release["release"] == body["release"] for release in releases):
            raise RefusalError(409, "release_exists", f"{model} has {body['release']} already")
        if self.refusing:
            check = self.refusing.pop(0)
            raise RefusalError(422, "release_refused", f"check {check}: no", check)
        data = self.blobs[body["metadata"]]
        signed = json.loads(data)["signed"]
        self.trust["image"][f"{signed['version']}.pub-{body['publisher']}.json"] = data
        prefix = f"m/{body['publisher']}/{model}/{body['release']}+"
        variants = [
            self._variant(target["hashes"]["sha256"])
            for path, target in sorted(signed["targets"].items())
            if path.startswith(prefix)
        ]
        counter = variants[0]["manifest"]["release_counter"]
        releases.append({"release": body["release"], "counter": counter, "variants": variants})
        return httpx.Response(201, json=releases[-1])

    def retire(self, _request: httpx.Request, body: Json, model: str, at: str) -> httpx.Response:
        data = self.blobs[body["metadata"]]
        version = json.loads(data)["signed"]["version"]
        self.trust["image"][f"{version}.pub-{body['publisher']}.json"] = data
        for found in self.models.get(model, []):
            if found["release"] == at:
                found["retired_at"] = CREATED
                return httpx.Response(200, json={"model": model, **found})
        raise RefusalError(404, "release_not_found", f"there is no release {model}@{at}")

    def list_channels(self, request: httpx.Request, _body: Json, model: str) -> httpx.Response:
        self.model(request, _body, model)
        counters = {one["release"]: one["counter"] for one in self.models[model]}
        items: list[Json] = []
        for (of, channel), releases in sorted(self.channels.items()):
            if of != model:
                continue
            ordered = sorted(releases, key=counters.__getitem__, reverse=True)
            put = {"put_at": CREATED, "put_by": "user:root", "retired_at": None}
            entries = [{"release": one, "counter": counters[one], **put} for one in ordered]
            items.append({"name": channel, "newest": ordered[0], "releases": entries})
        return httpx.Response(200, json={"items": items, "next": None})

    def put_in_channel(
        self, request: httpx.Request, body: Json, model: str, channel: str, at: str
    ) -> httpx.Response:
        self.release(request, body, model, at)
        self.channels.setdefault((model, channel), []).append(at)
        return self.list_channels(request, body, model)

    def take_out_of_channel(
        self, _request: httpx.Request, _body: Json, model: str, channel: str, at: str
    ) -> httpx.Response:
        if at not in self.channels.get((model, channel), []):
            raise RefusalError(404, "not_in_channel", f"{model}@{at} is not in {channel}")
        self.channels[model, channel].remove(at)
        return httpx.Response(204)

    def _variant(self, sha256: str) -> Json:
        read = manifest.to_builtins(manifest.decode(self.blobs[sha256]))
        return {"variant": read["variant"], "digest": sha256, "manifest": read}

    def list_trust(self, request: httpx.Request, _body: Json, which: str) -> httpx.Response:
        found = self.trust[which]
        return self._page(request, [{"name": name, "size": len(found[name])} for name in found])

    def one_trust(self, _request: httpx.Request, _: Json, which: str, name: str) -> httpx.Response:
        if name not in self.trust[which]:
            raise RefusalError(404, "metadata_not_found", f"there is no metadata {name}")
        return httpx.Response(200, content=self.trust[which][name])

    def publish_trust(self, _request: httpx.Request, body: Json, which: str) -> httpx.Response:
        files = {name: self.blobs[sha256] for name, sha256 in body["files"].items()}
        if self.on_metadata is None:
            self.trust[which] |= files
        else:
            self.on_metadata(which, files)
        return httpx.Response(201, json={"items": [], "next": None})

    def plan(self, _request: httpx.Request, body: Json) -> httpx.Response:
        self._release_exists(body)
        return httpx.Response(200, json={"devices": [self._planned(d) for d in self._target(body)]})

    def _planned(self, device: Json) -> Json:
        return {
            "device_id": device["id"],
            "simulated": device["simulated"],
            "hardware_class": "aarch64/4",
            "action": "INSTALL",
            "variant": "q4_0",
            "digest": "4" * 64,
            "current": None,
            "reason": None,
            "verdicts": [Q8, Q4],
        }

    def fit(self, _request: httpx.Request, body: Json) -> httpx.Response:
        for device in [body["device"]] if "device" in body else []:
            self._find(list(self.devices.values()), device, "device")
        return httpx.Response(200, json=self._chosen(body["model"], body["release"]))

    def matrix(self, _request: httpx.Request, body: Json) -> httpx.Response:
        releases = [one.partition("@")[::2] for one in body["models"]] or [("talk", "1.0.0")]
        chosen = [self._chosen(model, version) for model, version in releases]
        hardware = {
            "hardware_class": "c0ffee",
            "devices": 2,
            "example": "cam-1",
            "simulated": True,
            "arch": "aarch64",
            "processor": "Pi 5",
            "memory_budget_bytes": 1 << 30,
        }
        answer = {
            "classes": [hardware],
            "releases": [
                {"model": one["model"], "release": one["release"], "variants": ["q4_0", "q8_0"]}
                for one in chosen
            ],
            "cells": [{"hardware_class": "c0ffee", **one} for one in chosen],
        }
        return httpx.Response(200, json=answer)

    def _chosen(self, model: str, version: str | None) -> Json:
        self._release_exists({"model": model, "release": version or "1.0.0"})
        return {
            "model": model,
            "release": version or "1.0.0",
            "chosen": self.fitting,
            "digest": None,
            "verdicts": [{**one, "rates": {"decode_tps": None}} for one in (Q8, Q4)],
        }

    def save_plan(self, request: httpx.Request, body: Json) -> httpx.Response:
        self.plans["p-1"] = body
        found = self.plan(request, body).json()
        return httpx.Response(201, json={**found, "id": "p-1", "expires_at": CREATED})

    def apply_plan(self, request: httpx.Request, body: Json, one: str) -> httpx.Response:
        if one not in self.plans:
            raise RefusalError(404, "plan_not_found", f"there is no plan {one!r}: plan again")
        return self.create_rollout(request, {**self.plans[one], **body})

    def list_plans(self, _request: httpx.Request, _body: Json) -> httpx.Response:
        items = [{"id": one, **body, "made_at": CREATED} for one, body in self.plans.items()]
        return httpx.Response(200, json={"items": items, "next": None})

    def show_plan(self, request: httpx.Request, _body: Json, one: str) -> httpx.Response:
        if one not in self.plans:
            raise RefusalError(404, "plan_not_found", f"there is no plan {one!r}: plan again")
        devices = self.plan(request, self.plans[one]).json()["devices"]
        return httpx.Response(200, json={"id": one, **self.plans[one], "devices": devices})

    def create_rollout(self, _request: httpx.Request, body: Json) -> httpx.Response:
        self._release_exists(body)
        self._target(body)
        made = {
            **body,
            "id": f"r-{len(self.lists['rollouts']) + 1}",
            "state": "SCHEDULED" if "start_at" in body else "READY",
            "counts": {"QUEUED": len(self.devices)},
        }
        self.lists["rollouts"].append(made)
        return httpx.Response(201, json=made)

    def rollout(self, request: httpx.Request, body: Json, one: str) -> httpx.Response:
        found = self._find(self.lists["rollouts"], one, "rollout")
        if request.method == "PATCH":
            found.update(body)
            return httpx.Response(200, json=found)
        return httpx.Response(200, json={**found, "state": self.moments[0][0]})

    def executions(self, request: httpx.Request, _body: Json, one: str) -> httpx.Response:
        self._find(self.lists["rollouts"], one, "rollout")
        executions = self.moments[0][1]
        if len(self.moments) > 1:
            self.moments.pop(0)
        return self._page(request, executions)

    def act(self, _request: httpx.Request, _body: Json, one: str, action: str) -> httpx.Response:
        found = self._find(self.lists["rollouts"], one, "rollout")
        if found["state"] == "FINISHED":
            raise RefusalError(409, "wrong_state", f"a rollout that is FINISHED cannot {action}")
        after = {
            "start": "RUNNING",
            "pause": "PAUSED",
            "resume": "RUNNING",
            "stop": "STOPPING",
            "promote": "RUNNING",
            "retry-failed": "RUNNING",
            "roll-back": "ROLLING_BACK",
            "deny": "APPROVAL_DENIED",
            **dict.fromkeys(("override-approval", "review-override"), "STARTING"),
        }
        found["state"] = after[action]
        return httpx.Response(200, json=found)

    def approval(self, _request: httpx.Request, _body: Json, one: str) -> httpx.Response:
        found = self._find(self.lists["rollouts"], one, "rollout")
        shown = {"rollout_id": one, "state": found["state"], "spec": self.specs.get(one)}
        shown |= {"strategy": self.strategies.get(one)}
        return httpx.Response(200, json={**shown, "approved_by": [], "missing": ["1 signature"]})

    def approve(self, _request: httpx.Request, body: Json, one: str) -> httpx.Response:
        self._find(self.lists["rollouts"], one, "rollout")
        if canonical.sha256_hex(self.specs[one].encode()) != body["spec_sha256"]:
            raise RefusalError(409, "specification_changed", "look again")
        answer = {"rollout_id": one, "state": "STARTING", "spec": self.specs[one]}
        return httpx.Response(200, json={**answer, "approved_by": ["user:root"], "missing": []})

    def recurrence(
        self, request: httpx.Request, body: Json, one: str, act: str = ""
    ) -> httpx.Response:
        found = self._find(self.lists["recurring-rollouts"], one, "recurring rollout")
        if request.method == "PATCH":
            found.update(body)
        if act:
            found["paused_at"] = CREATED if act == "pause" else None
        return httpx.Response(200, json=found)

    def occurrences(self, request: httpx.Request, _body: Json, one: str) -> httpx.Response:
        found = self._find(self.lists["recurring-rollouts"], one, "recurring rollout")
        return self._page(request, found.get("occurrences", []))

    def bundles(self, _request: httpx.Request, body: Json) -> httpx.Response:
        for device in body.get("devices", []):
            self._find(list(self.devices.values()), device, "device")
        members = [
            {"name": name, "data": base64.b64encode(data).decode()} for name, data in self.bundle
        ]
        blobs = [
            {"sha256": sha256, "size": self.sizes.get(sha256, len(data))}
            for sha256, data in self.blobs.items()
        ]
        return httpx.Response(200, json={"members": members, "blobs": blobs})

    def list_audit(
        self, request: httpx.Request, _body: Json, device: str | None = None
    ) -> httpx.Response:
        if device is not None:
            self._find(list(self.devices.values()), device, "device")
        tag = request.url.params.get("tag")
        found = [one for one in self.audit if tag in (None, one["body"].get("tag"))]
        return self._page(request, found)

    def verify(
        self, _request: httpx.Request, _body: Json, device: str | None = None
    ) -> httpx.Response:
        if device is not None:
            self._find(list(self.devices.values()), device, "device")
        return httpx.Response(200, json={"ok": self.audit_ok, "records": len(self.audit)})

    def audit_key(self, _request: httpx.Request, _body: Json) -> httpx.Response:
        return httpx.Response(200, json={"origin": ORIGIN, "vkey": self.log.vkey})

    def audit_checkpoint(self, request: httpx.Request, _body: Json) -> httpx.Response:
        size = request.url.params.get("size")
        if size is not None and int(size) in self.notes:
            return httpx.Response(200, text=self.notes[int(size)])
        return httpx.Response(200, text=self.log.note())

    def audit_export(self, _request: httpx.Request, _body: Json) -> httpx.Response:
        headers = {"content-type": "application/x-ndjson"}
        return httpx.Response(200, content=self.log.export(), headers=headers)

    def report(self, request: httpx.Request, _body: Json, _framework: str) -> httpx.Response:
        params, bad = dict(request.url.params), ("yesterday", "memory > 1")
        if any(value in bad for value in params.values()):
            raise RefusalError(422, "invalid_request", "expected a time, and a filter over labels")
        if params.get("device", "gw-1") != "gw-1":
            raise RefusalError(404, "device_not_found", "there is no such device")
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as file:
            file.writestr("report.json", '{"clauses": []}')
        headers = {"content-type": "application/zip"}
        return httpx.Response(200, content=made.getvalue(), headers=headers)

    def device_audit_export(
        self, request: httpx.Request, body: Json, device: str
    ) -> httpx.Response:
        self._find(list(self.devices.values()), device, "device")
        return self.audit_export(request, body)

    def audit_consistency(self, request: httpx.Request, _body: Json) -> httpx.Response:
        asked = request.url.params
        hashes = self.log.proof(int(asked["from"]), int(asked["to"]))
        return httpx.Response(200, json={"hashes": hashes})

    def audit_cosign(self, _request: httpx.Request, body: Json) -> httpx.Response:
        self.log.cosigned.append(body["line"])
        return httpx.Response(200, json={"size": body["size"]})

    def audit_restorations(self, _request: httpx.Request, _body: Json) -> httpx.Response:
        return httpx.Response(200, json={"items": [{"statement": one} for one in self.restored]})

    def audit_inclusion(self, request: httpx.Request, _body: Json) -> httpx.Response:
        seq = int(request.url.params["seq"])
        if seq > len(self.log.records):
            raise RefusalError(404, "record_not_found", f"there is no record {seq}")
        return httpx.Response(200, json=self.log.inclusion(seq))

    def audit_keeping(self, request: httpx.Request, body: Json) -> httpx.Response:
        """Answer as holds and policies are; nothing is kept."""
        if request.method == "GET":
            return httpx.Response(200, json={"items": [{"tag": "", "days": 365, "id": "id-1"}]})
        days = body.get("days")
        if days is not None and days < 183 and not body.get("force_reason"):
            raise RefusalError(400, "retention_too_short", "expected at least 183 days")
        return httpx.Response(200, json={"id": "id-1", **body})

    def release_hold(self, _request: httpx.Request, body: Json, hold: str) -> httpx.Response:
        self._find([{"id": "id-1"}], hold, "hold")
        return httpx.Response(200, json={"id": hold, **body})

    def clear_retention(self, _request: httpx.Request, _body: Json) -> httpx.Response:
        return httpx.Response(204)

    def _find(self, items: list[Json], one: str, kind: str) -> Json:
        for item in items:
            if item["id"] == one:
                return item
        raise RefusalError(404, "not_found", f"there is no {kind} {one}")

    def _release_exists(self, body: Json) -> None:
        releases = self.models.get(body["model"], [])
        if not any(release["release"] == body["release"] for release in releases):
            raise RefusalError(
                404, "not_found", f"there is no release {body['model']}@{body['release']}"
            )

    def _target(self, body: Json) -> list[Json]:
        for device in body["devices"]:
            self._find(list(self.devices.values()), device, "device")
        return [d for d in self.devices.values() if body["devices"] in ([], [d["id"]])]


NAME: Final = "([^/]+)"
ACTIONS: Final = (
    "(start|pause|resume|stop|deny|override-approval|review-override"
    "|promote|retry-failed|roll-back)"
)
LISTS: Final = (
    "(users|roles|bindings|tokens|sessions|enrolment-tokens|publishers|rollouts|recurring-rollouts)"
)
ROUTES: Final[list[tuple[str, str, Callable[..., httpx.Response]]]] = [
    ("GET", "whoami", OperatorApi.whoami),
    ("POST", "login", OperatorApi.login),
    ("POST", "logout", OperatorApi.done),
    ("PUT", f"users/{NAME}/password", OperatorApi.done),
    ("POST", "rollouts/plan", OperatorApi.plan),
    ("POST", "fit", OperatorApi.fit),
    ("POST", "fit/matrix", OperatorApi.matrix),
    ("POST", "rollouts/plans", OperatorApi.save_plan),
    ("GET", "rollouts/plans", OperatorApi.list_plans),
    ("GET", f"rollouts/plans/{NAME}", OperatorApi.show_plan),
    ("POST", f"rollouts/plans/{NAME}/apply", OperatorApi.apply_plan),
    ("POST", "rollouts", OperatorApi.create_rollout),
    ("GET", LISTS, OperatorApi.list_of),
    ("POST", LISTS, OperatorApi.create),
    ("DELETE", f"{LISTS}/{NAME}", OperatorApi.delete),
    ("POST", f"(users)/{NAME}/(disable|enable)", OperatorApi.change),
    ("PATCH", f"(roles)/{NAME}", OperatorApi.change),
    ("GET", "devices", OperatorApi.list_devices),
    ("GET", f"devices/{NAME}", OperatorApi.device),
    ("GET", f"devices/{NAME}/why", OperatorApi.why),
    ("PATCH", f"devices/{NAME}", OperatorApi.device),
    ("DELETE", f"devices/{NAME}", OperatorApi.device),
    ("POST", f"devices/{NAME}/release-quarantine", OperatorApi.release_device),
    ("GET", "models", OperatorApi.list_models),
    ("GET", f"models/{NAME}", OperatorApi.model),
    ("GET", f"models/{NAME}/releases/{NAME}", OperatorApi.release),
    ("POST", f"models/{NAME}/releases", OperatorApi.publish),
    ("POST", f"models/{NAME}/releases/{NAME}/retire", OperatorApi.retire),
    ("GET", f"models/{NAME}/channels", OperatorApi.list_channels),
    ("PUT", f"models/{NAME}/channels/{NAME}/releases/{NAME}", OperatorApi.put_in_channel),
    ("DELETE", f"models/{NAME}/channels/{NAME}/releases/{NAME}", OperatorApi.take_out_of_channel),
    ("GET", "trust/(image|director)", OperatorApi.list_trust),
    ("POST", "trust/(image|director)", OperatorApi.publish_trust),
    ("GET", f"trust/(image|director)/{NAME}", OperatorApi.one_trust),
    ("GET", f"recurring-rollouts/{NAME}", OperatorApi.recurrence),
    ("PATCH", f"recurring-rollouts/{NAME}", OperatorApi.recurrence),
    ("GET", f"recurring-rollouts/{NAME}/occurrences", OperatorApi.occurrences),
    ("POST", f"recurring-rollouts/{NAME}/(pause|resume)", OperatorApi.recurrence),
    ("GET", f"rollouts/{NAME}", OperatorApi.rollout),
    ("GET", f"rollouts/{NAME}/executions", OperatorApi.executions),
    ("PATCH", f"rollouts/{NAME}", OperatorApi.rollout),
    ("GET", f"rollouts/{NAME}/approval", OperatorApi.approval),
    ("POST", f"rollouts/{NAME}/approve", OperatorApi.approve),
    (
        "POST",
        f"rollouts/{NAME}/{ACTIONS}",
        OperatorApi.act,
    ),
    ("POST", "bundles", OperatorApi.bundles),
    ("GET", "audit", OperatorApi.list_audit),
    ("GET", "audit/verify", OperatorApi.verify),
    ("GET", "audit/key", OperatorApi.audit_key),
    ("GET", "audit/checkpoint", OperatorApi.audit_checkpoint),
    ("GET", "audit/export", OperatorApi.audit_export),
    ("GET", f"reports/{NAME}", OperatorApi.report),
    ("GET", "audit/proof/consistency", OperatorApi.audit_consistency),
    ("POST", "audit/cosignatures", OperatorApi.audit_cosign),
    ("GET", "audit/restorations", OperatorApi.audit_restorations),
    ("GET", "audit/proof/inclusion", OperatorApi.audit_inclusion),
    ("GET", "audit/(?:retention|holds)", OperatorApi.audit_keeping),
    ("POST", "audit/(?:retention|holds)", OperatorApi.audit_keeping),
    ("DELETE", "audit/retention", OperatorApi.clear_retention),
    ("POST", f"audit/holds/{NAME}/release", OperatorApi.release_hold),
    ("GET", f"devices/{NAME}/audit", OperatorApi.list_audit),
    ("GET", f"devices/{NAME}/audit/verify", OperatorApi.verify),
    ("GET", f"devices/{NAME}/audit/export", OperatorApi.device_audit_export),
]
