"""A device whose certificate ended while nobody could be asked (T28), in real processes.

All processes live by one clock that the test sets: libfaketime reads it from a file. What they wait
for by the monotonic clock is real.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import BIN, Agent, wait_for
from simulators.fleet import Fleet, ask, status

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
DEVICE = "dev-1"
LIFE_DAYS = 7
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which `ssl` has no name for

pytestmark = [
    pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed"),
    pytest.mark.timeout(900),
]


class FleetOfOtherDays(Fleet):
    """Is asked by this process, too: by its clock the controller's certificate is not in date."""

    def transport(self) -> httpx.BaseTransport:
        context = ssl.create_default_context(cafile=str(self.controller.data / "ca.pem"))
        context.verify_flags |= NO_CHECK_TIME
        return httpx.HTTPTransport(verify=context, trust_env=False)


@dataclass
class Years:
    """A fleet of one device, and its days."""

    fleet: Fleet
    clock: Path

    @property
    def agent(self) -> Agent:
        return self.fleet.agents[DEVICE]

    def set_day(self, day: float) -> None:
        """Let it be so many days after the enrolment, for all processes, now."""
        self.clock.write_text(f"+{int(day * 86400)}\n")

    def shown(self) -> dict[str, Any]:
        return self.fleet.shown(DEVICE)

    def ends_at(self) -> datetime:
        return datetime.fromisoformat(self.shown()["certificate_ends_at"])

    def assert_answers(self, release: str = "1.0.0") -> None:
        assert ask(self.agent)[1] == self.fleet.digests[release]

    def plan(self) -> int:
        """Return the version of the assignment that the device obeys."""
        return int(status(self.agent)["assignment_version"])

    def wait_heard(self) -> None:
        """Wait for two more heartbeats: in answer to them a plan would be given."""
        for _ in range(2):
            before = self.shown()["last_seen_at"]
            wait_for("a heartbeat", lambda was=before: self.shown()["last_seen_at"] != was)

    def wait_renewed(self, before: datetime) -> None:
        wait_for(
            "another certificate",
            lambda: self.ends_at() > before,
            timeout_s=120,
            alive=self.agent,
        )
        self.fleet.wait_online([DEVICE])


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Generator[Years]:
    folder = tmp_path_factory.mktemp("years")
    clock = folder / "clock"
    made = Years(FleetOfOtherDays(folder), clock)
    with pytest.MonkeyPatch.context() as patch:
        # For every process that is started from here on; this one has its clock already.
        patch.setenv("LD_PRELOAD", str(FAKETIME))
        patch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
        patch.setenv("FAKETIME_CACHE_DURATION", "1")  # seconds
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        made.set_day(0)
        try:
            made.fleet.open()
            made.fleet.push("1.0.0", "This is the first release.")
            made.fleet.agent(DEVICE)
            made.fleet.wait_online([DEVICE])
            assert made.fleet.roll_out("1.0.0", [DEVICE]) == {DEVICE: "SUCCEEDED"}
            yield made
        finally:
            made.fleet.close()


def test_t28_a_certificate_that_ends_while_the_controller_is_away_is_renewed_when_it_is_back(
    years: Years,
) -> None:
    before = years.ends_at()
    years.fleet.controller.terminate()
    years.agent.terminate()
    years.set_day(LIFE_DAYS - 1)
    years.agent.start()
    years.assert_answers()
    years.set_day(LIFE_DAYS + 1)  # under the running agent, which has asked in vain since it began
    years.assert_answers()
    years.fleet.controller.start()
    years.wait_renewed(before)
    assert years.shown()["quarantined_at"] is None
    years.assert_answers()


def test_t28_a_device_without_power_for_60_days_answers_and_renews_by_itself(years: Years) -> None:
    before = years.ends_at()
    years.fleet.controller.terminate()
    years.agent.terminate()
    years.set_day(2 * LIFE_DAYS + 1 + 60)
    years.agent.start()
    years.assert_answers()
    years.fleet.controller.start()
    years.wait_renewed(before)
    assert years.shown()["quarantined_at"] is None
    years.fleet.push("2.0.0", "This is the second release.")
    assert years.fleet.roll_out("2.0.0", [DEVICE]) == {DEVICE: "SUCCEEDED"}


def test_t28_after_400_days_a_device_is_heard_and_gets_no_plan_until_a_person_releases_it(
    years: Years,
) -> None:
    before, audited = years.ends_at(), len(years.fleet.device_audit(DEVICE))
    years.fleet.controller.terminate()
    years.agent.terminate()
    years.set_day(3 * LIFE_DAYS + 61 + 400)
    replace_issuer(years.fleet)  # its year is over too
    # And the days of the administrator's token.
    recover = [BIN / "sprat-controller", "recover", "--data", years.fleet.controller.data]
    subprocess.run(recover, check=True)
    years.agent.start()
    years.assert_answers("2.0.0")
    years.fleet.controller.start()
    years.wait_renewed(before)
    assert years.shown()["quarantine_reason"] == "late"
    wait_for("its audit", lambda: len(years.fleet.device_audit(DEVICE)) > audited)
    plan = years.plan()
    years.fleet.start_rollout("1.0.0", [DEVICE])
    years.wait_heard()
    assert years.plan() == plan
    years.assert_answers("2.0.0")
    years.fleet.sprat("devices", "release-quarantine", DEVICE, "--yes", "-o", "json")
    # It has the plan; what it fetches for it waits for metadata that the holders must sign anew.
    wait_for("the plan to be obeyed", lambda: years.plan() > plan)
    assert years.shown()["quarantined_at"] is None
    years.assert_answers("2.0.0")


def replace_issuer(fleet: Fleet) -> None:
    """Have the offline root certify another issuer, as the runbook says."""
    data, offline = fleet.controller.data, fleet.controller.offline
    signer = data / "signer"
    for verb in ("new-key", "use-key"):
        if verb == "use-key":
            fleet.sprat(
                *("trust", "certify-issuer", str(signer / "ca-issuer.next.pub")),
                *("--ca", str(data / "ca.pem"), "--key", str(offline / "ca-root.pem")),
                *("--out", str(signer / "ca-issuer.next.crt.pem"), "-o", "json"),
            )
        command = [BIN / "sprat-signer", verb, "ca-issuer", "--data", str(signer)]
        subprocess.run(command, check=True)
