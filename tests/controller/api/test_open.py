from __future__ import annotations

import pytest
from cryptography import x509
from simulators.http_world import Client, HttpWorld, error_of, new_csr


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
    answer = await stranger.send("POST", "/enrol", json={"token": claim, "csr": new_csr().decode()})
    enrolled = answer.json()
    assert answer.status_code == 200
    assert enrolled["device_id"] == "gw-1"
    assert enrolled["grpc"] == "ctl.example:7771"
    assert enrolled["mqtt"] == "ctl.example:8883"
    assert enrolled["assignment_key"] == {"name": "controller", "public_pem": "PEM"}
    authority = x509.load_pem_x509_certificate(enrolled["ca"].encode())
    certificate = x509.load_pem_x509_certificate(enrolled["certificate"].encode())
    certificate.verify_directly_issued_by(authority)
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
    body = {"token": claim, "csr": new_csr().decode()}
    answer = await world.client(None).send("POST", "/enrol", json=body, headers={"host": host})
    assert answer.json()["grpc"] == grpc


async def test_a_strange_host_is_refused_before_the_token_is_used(
    world: HttpWorld, admin: Client
) -> None:
    claim = (await admin.post("enrolment-tokens", {"device_id": "gw-1"})).json()["token"]
    body = {"token": claim, "csr": new_csr().decode()}
    stranger = world.client(None)
    answer = await stranger.send("POST", "/enrol", json=body, headers={"host": "a b/c"})
    assert error_of(answer) == (400, "bad_host")
    assert (await stranger.send("POST", "/enrol", json=body)).status_code == 200


async def test_a_name_is_given_once(world: HttpWorld, admin: Client) -> None:
    claim = (await admin.post("enrolment-tokens", {"device_id": "gw-1"})).json()["token"]
    body = {"token": claim, "csr": new_csr().decode()}
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
