"""What devices tell of their models: kept within limits, quietly, the newest."""

from __future__ import annotations

from typing import Any

import pytest
from simulators.controlled import ALIAS, SimDevice, World
from sprat_controller.fleet import observed_metrics
from sprat_controller.fleet.observed_metrics import MOST_OF_DEVICE, Told
from sprat_controller.link.told_metrics import MOST, metrics_of
from sprat_controller.link.told_rates import MOST_MILLI_TPS
from sprat_controller.store.tables import ObservedMetric
from sprat_proto.audit_events import Tag
from sprat_proto.v1 import link_pb2
from sqlmodel import select

SEEN: dict[str, int] = {
    "window_s": 600,
    "requests": 100,
    "errors": 1,
    "decode_milli_tps": 9000,
    "ttft_p95_ms": 300,
    "peak_bytes": 1 << 33,
    "declared_bytes": 1 << 34,
}


def running(world: World, name: str = "a") -> SimDevice:
    device = world.join(name)
    world.create()
    world.run_due()
    device.sync()
    world.run_due()
    return device


def tell(device: SimDevice, digest: str = "", **said: Any) -> None:
    beat = device.a_heartbeat()
    digest = digest or beat.running[0].digest
    all_of_it: dict[str, Any] = {"alias": ALIAS, "digest": digest, **said}
    beat.metrics.append(link_pb2.ModelMetrics(**all_of_it))
    device.say(heartbeat=beat)


def kept(world: World) -> list[ObservedMetric]:
    with world.database.reading() as session:
        found = list(session.exec(select(ObservedMetric)).all())
        session.expunge_all()
        return found


def said_of(row: ObservedMetric) -> dict[str, int]:
    return {name: getattr(row, name) for name in SEEN}


def test_the_newest_metrics_are_kept(world: World) -> None:
    device = running(world)
    tell(device, "", **SEEN)
    (row,) = kept(world)
    assert said_of(row) == SEEN
    assert (row.device_id, row.alias, row.crashes, row.fallbacks) == ("a", ALIAS, 0, 0)
    assert row.hardware_class == world.device("a").hardware_class
    newer = {**SEEN, "window_s": 700, "requests": 150, "decode_milli_tps": 8000}
    tell(device, "", **newer, crashes=1)
    (row,) = kept(world)
    assert (said_of(row), row.crashes) == (newer, 1)


def test_rows_stay_quiet(world: World) -> None:
    device = running(world)
    tell(device, "", **SEEN)
    at = world.now
    world.wait(minutes=1)
    tell(device, "", **{**SEEN, "window_s": 660, "requests": 110, "decode_milli_tps": 9100})
    assert kept(world)[0].told_at == at
    tell(device, "", **{**SEEN, "errors": 2})
    assert kept(world)[0].told_at == world.now


def test_a_restart_of_the_agent_forgets_nothing_until_there_is_something_newer(
    world: World,
) -> None:
    device = running(world)
    tell(device, "", **SEEN)
    world.wait(minutes=1)
    tell(device, window_s=1, declared_bytes=1 << 34)
    assert said_of(kept(world)[0]) == {**SEEN, "window_s": 1}
    assert kept(world)[0].told_at == world.now
    tell(device, window_s=9, requests=4, declared_bytes=1 << 34)
    assert said_of(kept(world)[0]) == {**SEEN, "window_s": 9, "requests": 4, "errors": 0}


def test_of_what_the_device_was_not_given_nothing_is_kept(world: World) -> None:
    device = running(world)
    tell(device, "e" * 64, **SEEN)
    assert kept(world) == []


def test_what_a_probe_measured_is_kept_beside_it(world: World) -> None:
    device = world.join("a")
    world.create()
    world.run_due()
    device.heartbeat()
    device.finish()
    probe = link_pb2.Probe(
        score_permille=950, prompts=8, passed=7, decode_milli_tps=7000, ttft_ms=90
    )
    for report in device.reports:
        report.execution.probe.CopyFrom(probe)
    device.send_reports()
    (row,) = kept(world)
    assert (row.prompts, row.score_permille) == (8, 950)
    assert (row.probed_decode_milli_tps, row.probed_ttft_ms) == (7000, 90)
    tell(device, "", **SEEN)
    (row,) = kept(world)
    assert (said_of(row), row.score_permille) == (SEEN, 950)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"errors": 2, "requests": 1}, "as many errors as 1 requests, found 2"),
        ({"decode_milli_tps": MOST_MILLI_TPS + 1}, "at most 1000000 tokens a second"),
        ({"ttft_p95_ms": 1 << 40}, "expected a TTFT of at most 1073741824 ms"),
        ({"peak_bytes": 1 << 60}, "expected counts of at most 9007199254740992"),
        ({"crashes": 1 << 40}, "expected counts of at most"),
        ({"digest": "no digest"}, "expected an alias and a digest of 64 hex digits"),
        ({"alias": "no\nalias"}, "expected an alias and a digest of 64 hex digits"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    world: World, said: dict[str, Any], found: str
) -> None:
    device = running(world)
    tell(device, **said)
    assert kept(world) == []
    (record,) = world.audited(Tag.DEVICE_MESSAGE_REFUSED)
    assert record["detail"]["found"].startswith("metrics")
    assert found in record["detail"]["found"]


def test_more_models_than_there_can_be_are_refused_together() -> None:
    one = link_pb2.ModelMetrics(alias="a", digest="e" * 64)
    assert metrics_of([one] * MOST)[0] == [Told("e" * 64, "a", 0)]
    told, refused = metrics_of([one] * (MOST + 1))
    assert told == []
    assert refused == [f"metrics: expected at most {MOST} models, found {MOST + 1}"]


def test_of_one_device_a_bounded_number_of_variants_is_kept(world: World) -> None:
    device = running(world)
    digests = [device.committed[ALIAS].digest]
    for number in range(MOST_OF_DEVICE + 2):
        release = f"3.0.{number}"
        digests.append(world.publish(release, counter=number + 5)["q8_0"])
    for digest in digests:
        world.wait(seconds=1)
        with world.database.transaction() as session:
            figures = {"prompts": 1, "score_permille": 1, "decode_milli_tps": 1, "ttft_ms": 1}
            observed_metrics.keep_probe(session, "a", (ALIAS, digest), figures, world.now)
    assert {one.digest for one in kept(world)} == set(digests[-MOST_OF_DEVICE:])
