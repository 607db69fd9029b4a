"""Renewal: always a new key, never a moment without a usable certificate, and nothing waits."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.enrolment_api import DEVICE, NOW, EnrolmentApi
from simulators.sealed import journal_of
from sprat_agent.audit.intents import Intents
from sprat_agent.audit.journal import Journal
from sprat_agent.identity import files, keys
from sprat_agent.identity.enrol import Choices, enrol
from sprat_agent.identity.identity import Identity, IdentityError, load
from sprat_agent.identity.renewal import (
    JITTER,
    LOOK_AGAIN_S,
    SHARE,
    Renewal,
    RenewalError,
    renew,
    wait_s,
)
from sprat_agent.state import State

WEEK = timedelta(days=7)


@pytest.fixture
def api(tmp_path: Path) -> Generator[EnrolmentApi]:
    made = EnrolmentApi(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def identity(api: EnrolmentApi, tmp_path: Path) -> Identity:
    return enrol(api.url, api.token, tmp_path / "state", Choices(hardware_id="cpu-x86_64"))


def usable(identity: Identity) -> str:
    """Return the serial of the certificate, after a look at the whole pair."""
    tls, chain = keys.read_tls(identity.tls_path), identity.tls_path.read_text()
    ca = identity.ca_path.read_text()
    assert keys.why_not_certified(chain, identity.device_id, tls.key, ca) is None
    return tls.serial


def test_a_renewal_brings_a_new_key_and_certificate_under_the_same_identity(
    api: EnrolmentApi, identity: Identity
) -> None:
    before = keys.read_tls(identity.tls_path)
    vouching = identity.identity_key_path.read_bytes()
    renew(identity)
    after = keys.read_tls(identity.tls_path)
    assert after.key.public_key() != before.key.public_key()
    assert usable(identity) == api.desk.device(DEVICE).serial
    assert identity.identity_key_path.read_bytes() == vouching
    assert not identity.pending_key_path.exists()
    assert load(identity.folder.parent) == identity


def test_t24_a_lost_reply_of_a_renewal_is_answered_by_asking_again(
    api: EnrolmentApi, identity: Identity
) -> None:
    before = usable(identity)
    api.lose_requests, api.lose_replies = 1, 2
    for _ in range(3):
        with pytest.raises(RenewalError, match="cannot be reached"):
            renew(identity)
        assert usable(identity) == before
    certified = api.desk.device(DEVICE).serial
    assert certified != before
    renew(identity)
    assert usable(identity) == certified
    assert len(api.desk.audited("device:certificate:renewed")) == 1
    assert api.desk.device(DEVICE).quarantined_at is None


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", ["pending-key.pem", "tls.pem", "unlink"])
def test_t29_a_power_cut_at_any_step_leaves_the_old_or_the_new_certificate(
    api: EnrolmentApi,
    identity: Identity,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    *,
    before: bool,
) -> None:
    old = usable(identity)
    write, unlink = files.write_atomically, Path.unlink

    def cut_writing(path: Path, data: bytes, *, mode: int) -> None:
        if path.name == step and before:
            raise KeyboardInterrupt
        write(path, data, mode=mode)
        if path.name == step:
            raise KeyboardInterrupt

    def cut_unlinking(path: Path, **options: Any) -> None:
        if path.name != "pending-key.pem" or step != "unlink":
            unlink(path, **options)
            return
        if not before:
            unlink(path, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", cut_writing)
        patch.setattr(Path, "unlink", cut_unlinking)
        with pytest.raises(KeyboardInterrupt):
            renew(identity)
    left = usable(load(identity.folder.parent))
    assert left in (old, api.desk.device(DEVICE).serial)
    # Whatever was left, the next renewal succeeds, with a key that is new to the controller.
    for _ in range(2):
        renew(identity)
        assert usable(identity) == api.desk.device(DEVICE).serial != left
    assert api.desk.device(DEVICE).quarantined_at is None


@pytest.mark.parametrize("cut", range(0, 2000, 97))
def test_t29_a_half_written_pair_is_never_in_the_place_of_a_whole_one(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    old = usable(identity)
    replace = Path.replace

    def torn(path: Path, target: Path) -> Path:
        if target.name == "tls.pem":
            path.write_bytes(path.read_bytes()[:cut])
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", torn)
        with pytest.raises(KeyboardInterrupt):
            renew(identity)
    assert usable(identity) == old
    renew(identity)
    assert usable(identity) != old


@pytest.mark.parametrize(("late_days", "is_quarantined"), [(1, False), (60, False), (400, True)])
def test_t28_an_expired_certificate_is_renewed_without_a_truck(
    api: EnrolmentApi, identity: Identity, late_days: int, *, is_quarantined: bool
) -> None:
    old = usable(identity)
    api.desk.later(days=7 + late_days)
    renew(identity)
    assert usable(identity) == api.desk.device(DEVICE).serial != old
    assert (api.desk.device(DEVICE).quarantined_at is not None) is is_quarantined


def test_t27_a_copied_disk_is_refused_at_its_renewal(api: EnrolmentApi, identity: Identity) -> None:
    copied = identity.tls_path.read_bytes()
    renew(identity)
    identity.tls_path.write_bytes(copied)
    with pytest.raises(RenewalError, match="there may be a copy") as caught:
        renew(identity)
    assert caught.value.is_final
    assert api.desk.device(DEVICE).quarantine_reason == "copied"


def test_an_identity_key_that_is_gone_is_said_and_not_made_anew(identity: Identity) -> None:
    identity.identity_key_path.unlink()
    with pytest.raises(IdentityError, match="can no longer prove who it is"):
        renew(identity)
    assert not identity.identity_key_path.exists()


def _other_name(reply: dict[str, Any]) -> object:
    return reply | {"certificate": reply["ca"]}


def _other_authority(reply: dict[str, Any]) -> object:
    return reply | {"ca": reply["certificate"]}


def _no_form(_reply: dict[str, Any]) -> object:
    return ["hello"]


@pytest.mark.parametrize("change", [_other_name, _other_authority, _no_form])
def test_an_answer_that_does_not_hold_together_changes_nothing(
    api: EnrolmentApi, identity: Identity, change: Callable[[dict[str, Any]], object]
) -> None:
    before, ca = identity.tls_path.read_bytes(), identity.ca_path.read_bytes()
    api.change = change
    with pytest.raises(RenewalError):
        renew(identity)
    assert (identity.tls_path.read_bytes(), identity.ca_path.read_bytes()) == (before, ca)
    api.change = lambda reply: reply
    renew(identity)
    assert usable(identity)


def test_the_controller_may_name_a_second_authority(api: EnrolmentApi, identity: Identity) -> None:
    api.change = lambda reply: reply | {"ca": reply["ca"] + reply["ca"]}
    renew(identity)
    assert identity.ca_path.read_text() == api.ca_pem * 2
    assert usable(identity)


@given(st.integers(0, 30 * 86400), st.floats(-JITTER, JITTER))
def test_a_certificate_is_renewed_at_two_thirds_of_its_life(passed_s: int, jitter: float) -> None:
    now = NOW + timedelta(seconds=passed_s)
    waited = wait_s(NOW, NOW + WEEK, SHARE + jitter, now)
    assert waited >= 0
    if waited == 0:
        assert now - NOW >= WEEK * (SHARE - JITTER) * 0.999
    else:
        assert now - NOW <= WEEK * (SHARE + JITTER)


@pytest.mark.parametrize("year", [1970, 2099])
def test_a_wrong_clock_neither_renews_without_end_nor_never(year: int) -> None:
    wrong = datetime(year, 1, 1, tzinfo=UTC)
    waited = wait_s(NOW, NOW + WEEK, SHARE, wrong)
    assert (waited > 0) is (year == 1970)


class Turned:
    """A clock that a pause turns, here and at the controller, until it was paused often enough."""

    def __init__(self, api: EnrolmentApi, now: datetime, pauses: int) -> None:
        self._api = api
        self.now = now
        self.left = pauses
        self.paused: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now += timedelta(seconds=seconds)
        self._api.desk.later(seconds=seconds)
        self.left -= 1
        if self.left <= 0:
            raise asyncio.CancelledError


async def run(identity: Identity, turned: Turned) -> int:
    """Run a renewal until its clock stops; return how many certificates it got."""
    renewed: list[str] = []
    renewal = Renewal(
        identity,
        clock=lambda: turned.now,
        uniform=lambda _low, high: high,
        on_renewed=lambda: renewed.append(usable(identity)),
        pause=turned.pause,
    )
    with pytest.raises(asyncio.CancelledError):
        await renewal.run()
    return len(set(renewed))


async def test_a_device_renews_in_time_and_says_so(api: EnrolmentApi, identity: Identity) -> None:
    turned = Turned(api, NOW, pauses=150)
    assert await run(identity, turned) == 1
    assert max(turned.paused) <= LOOK_AGAIN_S
    assert api.desk.device(DEVICE).serial == usable(identity)


async def test_a_clock_that_is_years_ahead_renews_once_an_hour(
    api: EnrolmentApi, identity: Identity
) -> None:
    turned = Turned(api, NOW + timedelta(days=30_000), pauses=3)
    assert await run(identity, turned) == 3
    assert turned.paused == [LOOK_AGAIN_S] * 3


async def test_t28_a_controller_that_is_away_is_asked_again_until_it_is_there(
    api: EnrolmentApi, identity: Identity
) -> None:
    """An expired certificate ends nothing: the task goes on, and so does the device."""
    api.lose_requests = 8
    turned = Turned(api, NOW + timedelta(days=60), pauses=9)
    api.desk.later(days=60)
    assert await run(identity, turned) == 1
    assert turned.paused[:3] == [2.0, 4.0, 8.0]


async def test_a_refusal_is_not_asked_for_in_a_hurry(
    api: EnrolmentApi, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = dataclasses.replace(identity, device_id="ghost")
    turned = Turned(api, NOW + WEEK, pauses=3)
    assert await run(stranger, turned) == 0
    assert turned.paused == [LOOK_AGAIN_S] * 3
    assert "the controller refused" in caplog.text
    assert api.desk.device(DEVICE).quarantined_at is None


async def test_files_that_cannot_be_read_end_nothing(
    api: EnrolmentApi, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    identity.tls_path.write_text("half a p")
    assert await run(identity, Turned(api, NOW, pauses=2)) == 0
    assert "is not renewed" in caplog.text


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_fifty_renewals_in_one_process_leave_no_file_open(identity: Identity) -> None:
    renew(identity)
    before = open_files()
    for _ in range(50):
        renew(identity)
    assert open_files() <= before


def pairs_in(intents: Intents, journal: Journal) -> list[tuple[str, str, str, str]]:
    """Return of each end: outcome, reason, before, after; every intent has one."""
    assert intents.open() == ()
    records = [json.loads(one.body) for one in journal.batch(1000, 1 << 20)]
    assert [one["tag"] for one in records] == [
        "agent:certificate:intended",
        "agent:certificate:ended",
    ] * (len(records) // 2)
    ends = records[1::2]
    return [(e["outcome"], e.get("reason", ""), e["before"], e["after"]) for e in ends]


class KilledError(BaseException):
    """kill -9: nothing catches it."""


@pytest.mark.parametrize("when", ["never", "before", "after"])
def test_another_key_is_intended_before_it_is_there_and_found_after_a_kill(
    identity: Identity,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    old = usable(identity)
    state = State(tmp_path / "journal")
    journal = journal_of(state)
    intents = Intents(state, journal)
    write = keys.write_tls

    def killed(*what: Any) -> None:
        if when != "before":
            write(*what)
        if when != "never":
            raise KilledError

    monkeypatch.setattr(keys, "write_tls", killed)
    with contextlib.suppress(KilledError):
        renew(identity, intents)
    monkeypatch.undo()
    intents.settle({"certificate": lambda _: keys.read_tls(identity.tls_path).serial})
    ((outcome, reason, before, after),) = pairs_in(intents, journal)
    assert before == old != after
    assert (outcome, reason) == (
        ("failure", "interrupted") if when == "before" else ("success", "")
    )
    assert usable(identity) == (old if when == "before" else after)
    renew(identity, intents)
    assert pairs_in(intents, journal)[-1][0] == "success"
    state.close()


def test_no_answer_is_no_intent(api: EnrolmentApi, identity: Identity, tmp_path: Path) -> None:
    api.stop()
    state = State(tmp_path / "journal")
    journal = journal_of(state)
    with pytest.raises(RenewalError):
        renew(identity, Intents(state, journal))
    assert journal.next_seq() == 1
    state.close()
