"""What can be asked about Lyon in the world of `two_sites`: names for addresses, and bodies."""

from __future__ import annotations

from typing import Any

from simulators.two_sites import EVERY_NIGHT, WHAT, at

V1 = "/api/v1"
# Below it, but for whoever comes: nobody is signed in yet.
SIGNING_IN = (f"{V1}/login", f"{V1}/oidc/")
LOOKED = {"expected_revision": 999}  # nobody did: allowed, and nothing happens
NAMED: dict[str, Any] = {**WHAT, "devices": ["gw-lyon"]}
BODIES: dict[str, Any] = {
    f"PUT {V1}/users/{{user}}/password": {"password": "a heron at low tide"},
    f"POST {V1}/login": {"name": "lyon-victim", "password": "a heron at low tide"},
    f"POST {V1}/oidc/device/token": {"handle": "sprat-device." + "A" * 43},
    f"POST {V1}/users": {"name": "lyon-victim"},
    f"POST {V1}/roles": {"name": "lyon-role", "permissions": ["fleet:read"]},
    f"PATCH {V1}/roles/{{role}}": {"permissions": ["fleet:read"]},
    f"POST {V1}/bindings": {"subject": "lyon-victim", "role": "lyon-role"},
    f"POST {V1}/tokens": {"name": "first", "role": "viewer"},
    f"POST {V1}/enrolment-tokens": {"device_id": "gw-lyon", "labels": {"site": "lyon"}},
    f"PATCH {V1}/devices/{{device_id}}": {"labels": {"site": "lyon"}},
    f"POST {V1}/devices/{{device_id}}/release-quarantine": {"accept_older": False},
    f"POST {V1}/trust/{{repository}}": {"files": {}},
    f"POST {V1}/models/{{model}}/releases": {
        "release": "1.0.0",
        "publisher": "nobody",
        "metadata": "0" * 64,
    },
    f"POST {V1}/models/{{model}}/releases/{{release}}/retire": {
        "publisher": "nobody",
        "metadata": "0" * 64,
    },
    f"POST {V1}/rollouts/plan": at("lyon"),
    f"POST {V1}/rollouts/plans": NAMED,
    f"POST {V1}/rollouts/plans/{{plan_id}}/apply": {},
    f"POST {V1}/rollouts": NAMED,
    f"PATCH {V1}/rollouts/{{rollout_id}}": {"name": "x", **LOOKED},
    f"POST {V1}/rollouts/{{rollout_id}}/approve": {"spec_sha256": "0" * 64, **LOOKED},
    f"POST {V1}/rollouts/{{rollout_id}}/deny": LOOKED,
    f"POST {V1}/rollouts/{{rollout_id}}/override-approval": {"reason": "a b c", **LOOKED},
    f"POST {V1}/rollouts/{{rollout_id}}/review-override": {"verdict": "accepted", **LOOKED},
    f"POST {V1}/rollouts/{{rollout_id}}/promote": {"group": 0, **LOOKED},
    **{
        f"POST {V1}/rollouts/{{rollout_id}}/{verb}": LOOKED
        for verb in ("start", "pause", "resume", "stop", "retry-failed", "roll-back")
    },
    f"PATCH {V1}/recurring-rollouts/{{recurrence_id}}": {"name": "lyon", **LOOKED},
    f"POST {V1}/recurring-rollouts": {**EVERY_NIGHT, "model": "talk", "cron": "never"},
    f"POST {V1}/fit": {"model": "talk", "device": "gw-lyon", "context": 256},
    f"POST {V1}/fit/matrix": {"models": ["talk"], "context": 256},
    f"POST {V1}/bundles": {"devices": ["gw-lyon"]},
    f"POST {V1}/audit/retention": {"tag": "api:request:denied", "days": 36_500},
    f"POST {V1}/audit/holds": {"device_id": "gw-lyon", "reason": "lyon"},
    f"POST {V1}/audit/holds/{{hold_id}}/release": {"reason": "lyon"},
}
NAMES = {
    "session_id": "nothing",
    "repository": "image",
    "name": "1.root.json",
    "model": "talk",
    "release": "1.0.0",
    "channel": "stable",
    "user": "lyon-victim",
    "role": "lyon-role",
    "device_id": "gw-lyon",
    "level": "0",
    "index": "000",
    "hold_id": "nothing",
    "framework": "iso-27001",
}
# Whoever names the same thing in another way.
OTHERWISE = {
    f"DELETE {V1}/enrolment-tokens/{{token_id}}": {"token_id": "enrolment_token_id"},
    f"DELETE {V1}/devices/{{device_id}}": {"device_id": "gone-lyon"},
    "GET /image/{name}": {"name": "timestamp.json"},
}
