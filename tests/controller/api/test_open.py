from __future__ import annotations

import pytest
from cryptography import x509
from simulators.device_keys import (
    DeviceKeys,
    csr_of,
    enrolment_json,
    new_key,
    renewal_json,
    serial_in,
)
from simulators.http_world import Client, HttpWorld, error_of
from sprat_controller.fleet.rate import PER_SOURCE
from sprat_controller.store.tables import TrustMetadata


async def test_health_needs_no_token(shared: HttpWorld) -> None:
    stranger = shared.client(None)
    for path in ("/livez", "/readyz"):
        assert (await stranger.send("GET", path)).json() == {"status": "ok"}


async def test_a_device_learns_where_to_go_by_the_name_it_reached_us_at(
    world: HttpWorld, admin: Client
) -> None:
    body = {"device_id": "gw-1", "labels": {"site": "lyon"}}
    claim = (await admin.post("enrolment-tokens", body)).json()["token"]
    stranger = world.client(None)
    answer = await stranger.send("POST", "/enrol", json=enrolment_json(claim))
    enrolled = answer.json()
    assert answer.status_code == 200
    assert enrolled["device_id"] == "gw-1"
    assert enrolled["grpc"] == "ctl.example:7771"
    assert enrolled["mqtt"] == "ctl.example:8883"
    assert enrolled["group"] == "default"
    assert (enrolled["image_root"], enrolled["director_root"]) == (None, None)
    authority = x509.load_pem_x509_certificate(enrolled["ca"].encode())
    leaf, issuer = x509.load_pem_x509_certificates(enrolled["certificate"].encode())
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(authority)
    assert (await stranger.send("GET", "/enrol/ca.pem")).text == enrolled["ca"]
    shown = (await admin.get("devices/gw-1")).json()
    assert shown["state"] == "REGISTERED"
    assert shown["labels"] == {"site": "lyon"}


@pytest.mark.parametrize(
    ("host", "grpc"),
    [("[::1]:7770", "[::1]:7771"), ("10.0.0.1", "10.0.0.1:7771"), ("ctl:1", "ctl:7771")],
)
async def test_the_host_is_taken_from_the_request(
    world: HttpWorld, admin: Client, host: str, grpc: str
) -> None:
    claim = (await admin.post("enrolment-tokens", {"device_id": "gw-1"})).json()["token"]
    body = enrolment_json(claim)
    answer = await world.client(None).send("POST", "/enrol", json=body, headers={"host": host})
    assert answer.json()["grpc"] == grpc


async def test_a_strange_host_is_refused_before_the_token_is_used(
    world: HttpWorld, admin: Client
) -> None:
    claim = (await admin.post("enrolment-tokens", {"device_id": "gw-1"})).json()["token"]
    body = enrolment_json(claim)
    stranger = world.client(None)
    answer = await stranger.send("POST", "/enrol", json=body, headers={"host": "a b/c"})
    assert error_of(answer) == (400, "bad_host")
    assert (await stranger.send("POST", "/enrol", json=body)).status_code == 200


async def test_a_name_is_given_once(world: HttpWorld, admin: Client) -> None:
    claim = (await admin.post("enrolment-tokens", {"device_id": "gw-1"})).json()["token"]
    body = enrolment_json(claim)
    await world.client(None).send("POST", "/enrol", json=body)
    again = await admin.post("enrolment-tokens", {"device_id": "gw-1"})
    assert error_of(again) == (409, "device_exists")
    await admin.send("DELETE", "/api/v1/devices/gw-1")
    removed = await admin.post("enrolment-tokens", {"device_id": "gw-1"})
    assert error_of(removed) == (409, "device_exists")


@pytest.mark.parametrize("name", ["", "Not A Name", "controller", "a" * 65, "-a"])
async def test_a_name_that_is_no_device_id_is_refused(guest: Client, name: str) -> None:
    answer = await guest.post("enrolment-tokens", {"device_id": name})
    assert error_of(answer) == (400, "bad_device_id")


async def test_a_new_device_begins_to_trust_with_the_newest_roots(
    world: HttpWorld, admin: Client
) -> None:
    with world.parts.database.transaction() as session:
        for repository in ("image", "director"):
            for version in (1, 2):
                data = f"{repository} root {version}".encode()
                session.add(
                    TrustMetadata(repository=repository, role="root", version=version, data=data)
                )
    claim = (await admin.post("enrolment-tokens", {"device_id": "gw-1"})).json()["token"]
    enrolled = (await world.client(None).send("POST", "/enrol", json=enrolment_json(claim))).json()
    assert enrolled["image_root"] == "image root 2"
    assert enrolled["director_root"] == "director root 2"


async def test_a_batch_is_made_and_renewed_and_a_copy_waits_for_a_person(
    world: HttpWorld, admin: Client
) -> None:
    body = {"prefix": "kiosk", "count": 2, "group": "shop", "grace_days": 9}
    made = (await admin.post("enrolment-tokens", body)).json()
    assert (made["device_id"], made["count"], made["used"]) == (None, 2, 0)
    stranger, keys = world.client(None), DeviceKeys()
    enrolled = (
        await stranger.send("POST", "/enrol", json=enrolment_json(made["token"], keys))
    ).json()
    assert (enrolled["device_id"], enrolled["group"]) == ("kiosk-1", "shop")
    serial = serial_in(enrolled["certificate"])
    for expected in (200, 403):
        request = keys.renewal("kiosk-1", serial, csr_of(new_key()))
        answer = await stranger.send("POST", "/enrol/renew", json=renewal_json(request))
        assert answer.status_code == expected
    shown = (await admin.get("devices/kiosk-1")).json()
    assert (shown["quarantine_reason"], shown["group"]) == ("copied", "shop")
    released = await admin.post("devices/kiosk-1/release-quarantine", {"accept_older": True})
    assert released.json()["quarantined_at"] is None
    request = keys.renewal("kiosk-1", serial, csr_of(new_key()))
    answer = await stranger.send("POST", "/enrol/renew", json=renewal_json(request))
    assert answer.status_code == 200
    await admin.send("DELETE", "/api/v1/devices/kiosk-1")
    gone = await admin.post("devices/kiosk-1/release-quarantine", {})
    assert error_of(gone) == (409, "device_removed")
    refused = await stranger.send("POST", "/enrol/renew", json=renewal_json(request))
    assert error_of(refused) == (403, "device_removed")


async def test_t26_who_guesses_is_slowed_down(world: HttpWorld) -> None:
    stranger = world.client(None)
    keys = {"csr": "x", "identity_key": "x", "audit_key": "x", "audit_seed": "eA=="}
    body = {"token": "x", **keys, "signature": "eA==", "hardware_id": "x"}
    answers = [
        (await stranger.send("POST", "/enrol", json=body)).status_code
        for _ in range(PER_SOURCE.burst + 1)
    ]
    assert answers == [400] * PER_SOURCE.burst + [429]
    # It does not close the door for those that renew, and opens again.
    renewal = {"device_id": "a", "serial": "1", "csr": "x", "signature": "eA=="}
    assert (await stranger.send("POST", "/enrol/renew", json=renewal)).status_code == 400
    world.later(seconds=60)
    assert (await stranger.send("POST", "/enrol", json=body)).status_code == 400
