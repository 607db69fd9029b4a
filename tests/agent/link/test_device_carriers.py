"""Which carriers a device tries, and what each costs before it is used."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from simulators.link_ends import bare_identity
from sprat_agent.identity.identity import Identity
from sprat_agent.link.carrier import LinkUnavailableError
from sprat_agent.link.carriers import CarrierChoice, carriers_for


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return bare_identity("a", tmp_path, "127.0.0.1:1")


@pytest.mark.parametrize(
    ("choice", "mqtt", "names"),
    [
        ("auto", "127.0.0.1:1", ["grpc", "mqtt"]),
        ("auto", None, ["grpc"]),
        ("grpc", "127.0.0.1:1", ["grpc"]),
        ("mqtt", "127.0.0.1:1", ["mqtt"]),
    ],
)
def test_a_device_tries_what_it_is_allowed_and_has(
    identity: Identity, choice: CarrierChoice, mqtt: str | None, names: list[str]
) -> None:
    carriers = carriers_for(dataclasses.replace(identity, mqtt=mqtt), choice)
    assert [carrier.name for carrier in carriers] == names


def test_a_broker_that_was_never_named_cannot_be_asked_for(identity: Identity) -> None:
    with pytest.raises(LinkUnavailableError, match="named no MQTT broker"):
        carriers_for(dataclasses.replace(identity, mqtt=None), "mqtt")


@pytest.mark.parametrize("name", ["grpc", "mqtt"])
async def test_an_address_where_nobody_listens_is_unavailable(
    identity: Identity, name: CarrierChoice
) -> None:
    (carrier,) = carriers_for(identity, name)
    with pytest.raises(LinkUnavailableError):
        async with carrier.connect():
            pass


def test_a_carrier_that_is_not_used_is_not_imported() -> None:
    code = (
        "import sys, sprat_agent.link.carriers, sprat_agent.identity.identity;"
        "print([name for name in ('grpc', 'aiomqtt', 'paho', 'httpx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
