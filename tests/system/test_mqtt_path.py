"""The whole path over MQTT: a managed Mosquitto, an agent that uses nothing else."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from processes import wait_for
from simulators.fleet import Fleet, ask


@pytest.fixture(scope="module")
def over_mqtt(tmp_path_factory: pytest.TempPathFactory) -> Generator[Fleet]:
    folder: Path = tmp_path_factory.mktemp("mqtt")
    made = Fleet(folder, "--mqtt", "managed")
    try:
        made.open()
        made.push("1.0.0", "This came by way of a broker.")
        yield made
    finally:
        made.close()


def test_a_rollout_reaches_a_device_that_speaks_mqtt_only(over_mqtt: Fleet) -> None:
    agent = over_mqtt.agent("mqtt-1", "--carrier", "mqtt")
    over_mqtt.wait_online(["mqtt-1"])
    assert over_mqtt.sprat("devices", "show", "mqtt-1", "-o", "json")["carrier"] == "mqtt"
    assert over_mqtt.roll_out("1.0.0", ["mqtt-1"]) == {"mqtt-1": "SUCCEEDED"}
    assert ask(agent)[1] == over_mqtt.digests["1.0.0"]


def test_the_controller_notices_when_such_a_device_dies(over_mqtt: Fleet) -> None:
    agent = over_mqtt.agent("mqtt-2", "--carrier", "mqtt")
    over_mqtt.wait_online(["mqtt-2"])
    agent.kill()
    wait_for(
        "the device to be offline",
        lambda: not over_mqtt.sprat("devices", "show", "mqtt-2", "-o", "json")["online"],
    )


def test_what_was_assigned_while_it_was_away_arrives_when_it_returns(over_mqtt: Fleet) -> None:
    agent = over_mqtt.agent("mqtt-3", "--carrier", "mqtt")
    over_mqtt.wait_online(["mqtt-3"])
    agent.terminate()
    rollout = over_mqtt.start_rollout("1.0.0", ["mqtt-3"])
    agent.start()
    assert over_mqtt.wait_finished(rollout)["mqtt-3"]["state"] == "SUCCEEDED"
