from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from sprat_agent.bundle.refusal import BundleError
from sprat_agent.bundle.statement import Known, judged
from sprat_agent.registry.offline import key_set
from sprat_proto import bundle
from sprat_proto.approval import Approver
from sprat_proto.assignment import AssignedModel, Policy
from sprat_proto.bundle import OfflineRole, OfflineStatement
from sprat_proto.signing import SigningKey, generate_private_pem, merge

DAY = 86400
NOW = 1_780_000_000
KEYS = {name: SigningKey(generate_private_pem()) for name in ("ann", "bob", "eve")}
KNOWN = Known(group="lyon", counter=4, newest_issued=NOW - 10 * DAY, now=NOW)


def role(*names: str, threshold: int = 2) -> OfflineRole:
    return OfflineRole([Approver(name, KEYS[name].public_pem) for name in names], threshold)


ROLE = role("ann", "bob")
MODEL = AssignedModel(
    alias="assistant",
    publisher="me",
    model="talk",
    release="1.0.0",
    variant="q4_0",
    digest="d" * 64,
    size=1000,
    execution_id="offline-5-assistant",
    rollout_id="offline-5",
)
STATEMENT = OfflineStatement(
    schema=1,
    group="lyon",
    counter=5,
    issued=NOW - DAY,
    not_after=NOW + 80 * DAY,
    models=[MODEL],
    policy=Policy(),
)


def signed(*names: str, kind: str = bundle.STATEMENT_TYPE, **changes: Any) -> bytes:
    payload = bundle.encode_statement(msgspec.structs.replace(STATEMENT, **changes))
    return merge([KEYS[name].sign(payload, kind) for name in names])


def refused(envelope: bytes, known: Known = KNOWN) -> str:
    with pytest.raises(BundleError) as caught:
        judged(envelope, ROLE, known)
    return str(caught.value)


def test_a_newer_statement_by_both_keys_is_followed() -> None:
    assert judged(signed("ann", "bob"), ROLE, KNOWN) == STATEMENT


def test_a_statement_by_too_few_or_other_keys_is_refused() -> None:
    for envelope in (signed("ann"), signed("ann", "eve"), b"{}", signed("ann", "bob", kind="x/y")):
        assert refused(envelope).startswith("the bundle's statement is refused: ")


def test_one_signature_twice_is_one_signature() -> None:
    envelope = json.loads(signed("ann"))
    envelope["signatures"] *= 2
    assert "expected 2 of" in refused(json.dumps(envelope).encode())


def test_what_is_obeyed_already_may_come_again_until_it_expires() -> None:
    known = replace(KNOWN, counter=5, newest_issued=NOW, obeyed=STATEMENT)
    assert judged(signed("ann", "bob"), ROLE, known) == STATEMENT
    assert "has expired" in refused(signed("ann", "bob"), replace(known, now=NOW + 81 * DAY))
    assert "is not above 5" in refused(signed("ann", "bob", models=[]), known)


def test_a_changed_statement_is_refused() -> None:
    envelope = signed("ann", "bob").replace(b'"payload": "', b'"payload": "AAAA')
    assert "is refused" in refused(envelope)


@pytest.mark.parametrize(
    ("changes", "known", "message"),
    [
        ({"group": "oslo"}, {}, "is for the group oslo, and this device is of lyon"),
        ({"not_after": NOW - 1}, {}, "has expired"),
        ({"not_after": NOW + 90 * DAY}, {}, "is to be good for longer than 90 days"),
        ({"issued": NOW + 81 * DAY}, {}, "is to end before it begins"),
        ({"counter": 4}, {}, "is not above 4, which was taken before"),
        ({}, {"counter": 5}, "is not above 5, which was taken before"),
        ({}, {"newest_issued": NOW - DAY}, "was issued before the plan that this device obeys"),
        ({}, {"now": NOW + 81 * DAY}, "has expired"),
        ({"models": [MODEL, MODEL]}, {}, "names an alias or an execution twice"),
    ],
)
def test_what_is_not_for_this_device_now_is_refused(
    changes: dict[str, Any], known: dict[str, Any], message: str
) -> None:
    assert message in refused(signed("ann", "bob", **changes), replace(KNOWN, **known))


def test_other_keys_begin_to_count_anew() -> None:
    assert key_set(role("ann", "bob")) == key_set(role("bob", "ann"))
    assert key_set(role("ann", "bob")) != key_set(role("ann", "eve"))
