from __future__ import annotations

import dataclasses
import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.device_keys import DeviceKeys, csr_of, name_in, new_key, serial_in
from simulators.enrolment_desk import NOW, Desk
from sprat_controller.audit.denials import Denials
from sprat_controller.errors import DeniedError, RequestError, UnavailableError
from sprat_controller.fleet import admission, inventory, renewal
from sprat_controller.fleet.admission import Certified, Verdict
from sprat_controller.fleet.certificates import Given
from sprat_controller.fleet.renewal import Issue, Refuse, Repeat, Standing, decide
from sprat_controller.store.session import Database
from sprat_controller.store.tables import DeviceCertificate
from sqlmodel import select

COPIED, RENEWED = "device:certificate:copied", "device:certificate:renewed"


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


@pytest.fixture
def keys() -> DeviceKeys:
    return DeviceKeys()


def first(desk: Desk, keys: DeviceKeys, **wanted: Any) -> str:
    """Enrol and return the serial of the certificate."""
    return serial_in(desk.enrol(desk.token(**wanted), keys).chain_pem)


def refusal(desk: Desk, keys: DeviceKeys, serial: str, csr: str | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        desk.renew(keys, serial, csr)
    return caught.value.code


def release(desk: Desk, *, accept_older: bool = False) -> None:
    with desk.database.transaction() as session:
        inventory.release(
            session, "gw-1", accept_older=accept_older, actor="token:op", now=desk.now
        )


def test_a_renewal_is_a_chain_of_new_keys_under_the_same_name(desk: Desk, keys: DeviceKeys) -> None:
    serial = first(desk, keys)
    for _ in range(5):
        desk.later(days=5)
        renewed = desk.renew(keys, serial)
        assert name_in(renewed.chain_pem) == "gw-1"
        assert serial_in(renewed.chain_pem) != serial
        serial = serial_in(renewed.chain_pem)
        assert desk.device().serial == serial
    assert desk.device().certificate_ends_at == desk.now + timedelta(days=7)
    assert len(desk.audited(RENEWED)) == 5


def test_a_lost_answer_of_a_renewal_is_given_again(desk: Desk, keys: DeviceKeys) -> None:
    serial, csr = first(desk, keys), csr_of(new_key())
    renewed = desk.renew(keys, serial, csr)
    desk.later(days=30)
    assert desk.renew(keys, serial, csr) == renewed
    assert len(desk.audited(RENEWED)) == 1
    assert desk.device().quarantined_at is None


def test_a_signer_that_is_away_changes_nothing(desk: Desk, keys: DeviceKeys) -> None:
    serial, csr = first(desk, keys), csr_of(new_key())
    desk.signer.is_away = True
    with pytest.raises(UnavailableError):
        desk.renew(keys, serial, csr)
    desk.signer.is_away = False
    assert desk.device().serial == serial
    assert desk.renew(keys, serial, csr)


def test_t27_of_a_device_and_its_copy_the_second_to_renew_is_refused_and_quarantined(
    desk: Desk, keys: DeviceKeys, caplog: pytest.LogCaptureFixture
) -> None:
    serial = first(desk, keys)
    copy = dataclasses.replace(keys)
    desk.renew(keys, serial)
    assert desk.device().quarantined_at is None
    assert refusal(desk, copy, serial) == "certificate_superseded"
    device = desk.device()
    assert (device.quarantined_at, device.quarantine_reason) == (desk.now, "copied")
    assert len(desk.audited(COPIED)) == 1
    assert "may have been copied" in caplog.text


def test_t27_a_copy_of_long_ago_is_known_too(desk: Desk, keys: DeviceKeys) -> None:
    old = first(desk, keys)
    serial = old
    for _ in range(3):
        desk.later(days=300)
        serial = serial_in(desk.renew(keys, serial).chain_pem)
    assert refusal(desk, keys, old) == "certificate_superseded"
    with desk.database.reading() as session:
        remembered = session.exec(select(DeviceCertificate.serial)).all()
    assert old not in remembered  # and yet it was refused
    assert serial in remembered


def test_t27_in_quarantine_the_newest_goes_on_and_a_person_ends_it(
    desk: Desk, keys: DeviceKeys
) -> None:
    old = first(desk, keys)
    newest = serial_in(desk.renew(keys, old).chain_pem)
    assert refusal(desk, keys, old) == "certificate_superseded"
    newest = serial_in(desk.renew(keys, newest).chain_pem)
    assert desk.device().quarantined_at is not None
    release(desk)
    assert desk.device().quarantined_at is None
    assert len(desk.audited("operator:device:released")) == 1
    # The copy is still a copy.
    assert refusal(desk, keys, old) == "certificate_superseded"
    assert serial_in(desk.renew(keys, newest).chain_pem) == desk.device().serial


def test_the_true_device_comes_back_after_a_copy_renewed_when_a_person_says_so(
    desk: Desk, keys: DeviceKeys
) -> None:
    mine, csr = first(desk, keys), csr_of(new_key())
    stolen = serial_in(desk.renew(keys, mine).chain_pem)
    assert refusal(desk, keys, mine) == "certificate_superseded"
    release(desk, accept_older=True)
    renewed = desk.renew(keys, mine, csr)
    assert desk.renew(keys, mine, csr) == renewed  # its answer may be lost as any other
    assert refusal(desk, keys, stolen) == "certificate_superseded"


def test_a_request_that_is_replayed_brings_nothing_and_alarms_nobody(
    desk: Desk, keys: DeviceKeys
) -> None:
    serial, csr = first(desk, keys), csr_of(new_key())
    second = serial_in(desk.renew(keys, serial, csr).chain_pem)
    desk.renew(keys, second)
    assert refusal(desk, keys, serial, csr) == "key_used"
    assert desk.device().quarantined_at is None


def test_the_same_tls_key_is_not_certified_twice(desk: Desk, keys: DeviceKeys) -> None:
    assert refusal(desk, keys, first(desk, keys), csr_of(keys.tls)) == "key_used"


@pytest.mark.parametrize(("late_days", "grace_days", "is_quarantined"), [
    (1, 365, False),
    (60, 365, False),
    (400, 365, True),
    (60, 0, True),
    (0, 0, False),
])  # fmt: skip
def test_t28_a_late_renewal_is_always_certified_and_beyond_the_grace_quarantined(
    desk: Desk, keys: DeviceKeys, late_days: int, grace_days: int, *, is_quarantined: bool
) -> None:
    serial = first(desk, keys, grace_days=grace_days)
    desk.later(days=7 + late_days)
    renewed = desk.renew(keys, serial)
    device = desk.device()
    assert device.serial == serial_in(renewed.chain_pem)
    assert (device.quarantined_at is not None) is is_quarantined
    assert device.quarantine_reason == ("late" if is_quarantined else None)
    desk.later(days=5)
    assert desk.renew(keys, device.serial)
    release(desk)
    assert desk.device().quarantined_at is None


def test_a_removed_device_gets_no_certificate(desk: Desk, keys: DeviceKeys) -> None:
    serial = first(desk, keys)
    with desk.database.transaction() as session:
        inventory.remove(session, "gw-1", actor="token:op", now=desk.now)
    assert refusal(desk, keys, serial) == "device_removed"


def test_another_identity_key_and_another_device_are_refused_in_the_same_words(
    desk: Desk, keys: DeviceKeys
) -> None:
    serial = first(desk, keys)
    words: set[tuple[str, str]] = set()
    for stranger, device_id in ((DeviceKeys(), "gw-1"), (keys, "ghost"), (keys, "../x")):
        with pytest.raises(DeniedError) as caught:
            desk.renew(stranger, serial, device_id=device_id)
        words.add((caught.value.code, caught.value.message))
    assert {code for code, _ in words} == {"renewal_refused"}
    assert len(words) == 1
    assert desk.device().quarantined_at is None
    assert len(desk.audited("device:certificate:refused")) == 3


def test_a_signature_of_another_request_is_refused(desk: Desk, keys: DeviceKeys) -> None:
    serial = first(desk, keys)
    request = keys.renewal("gw-1", serial, csr_of(new_key()))
    for changed in (
        dataclasses.replace(request, csr_pem=csr_of(new_key())),
        dataclasses.replace(request, serial="1"),
        dataclasses.replace(request, signature=b"x"),
    ):
        with pytest.raises(DeniedError) as caught:
            renewal.renew(desk.database, desk.signer, Denials(desk.database), changed, desk.now)
        assert caught.value.code == "renewal_refused"


def test_of_renewals_that_race_one_wins_and_the_other_is_a_copy(
    desk: Desk, keys: DeviceKeys
) -> None:
    serial = first(desk, keys)
    together = threading.Barrier(8)
    won: list[Given] = []
    lost: list[str] = []

    def race(csr: str) -> None:
        together.wait()
        try:
            won.append(desk.renew(keys, serial, csr))
        except DeniedError as error:
            lost.append(error.code)

    threads = [threading.Thread(target=race, args=(csr_of(new_key()),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), lost) == (1, ["certificate_superseded"] * 7)


STANDING = Standing(
    is_revoked=False,
    newest_serial="b",
    newest_follows="a",
    newest_key_sha256="k",
    newest_ends_at=NOW,
    grace=timedelta(days=1),
    may_renew_from_any=False,
    is_known_key=False,
)


@given(
    st.builds(
        Standing,
        is_revoked=st.booleans(),
        newest_serial=st.just("b"),
        newest_follows=st.sampled_from([None, "a"]),
        newest_key_sha256=st.just("k"),
        newest_ends_at=st.just(NOW),
        grace=st.just(timedelta(days=1)),
        may_renew_from_any=st.booleans(),
        is_known_key=st.booleans(),
    ),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["k", "new"]),
    st.sampled_from([NOW, NOW + timedelta(days=2)]),
)
def test_never_a_new_certificate_for_a_removed_device_an_old_key_or_an_old_certificate(
    standing: Standing, serial: str, key: str, now: object
) -> None:
    decision = decide(standing, serial=serial, key_sha256=key, now=now)  # pyright: ignore[reportArgumentType] - drawn
    if standing.is_revoked:
        assert isinstance(decision, Refuse)
    if isinstance(decision, Issue):
        assert not standing.is_known_key
        assert serial == "b" or standing.may_renew_from_any
    if isinstance(decision, Repeat):
        assert (serial, key) == (standing.newest_follows, "k")


def test_a_device_in_time_is_not_quarantined_by_a_moment() -> None:
    at_the_end = decide(STANDING, serial="b", key_sha256="new", now=NOW + timedelta(days=1))
    assert at_the_end == Issue()


@pytest.mark.parametrize(
    ("known", "shown", "verdict"),
    [
        (None, "new", Verdict.UNKNOWN),
        (None, None, Verdict.UNKNOWN),
        (Certified("new", None, None), "new", Verdict.ADMITTED_FIRST),
        (Certified("new", NOW, "old"), "new", Verdict.ADMITTED),
        (Certified("new", None, "old"), "old", Verdict.ADMITTED),
        (Certified("new", NOW, "old"), "old", Verdict.SUPERSEDED),
        (Certified("new", None, None), "foreign", Verdict.SUPERSEDED),
        (Certified("new", NOW, "old"), None, Verdict.ADMITTED),
    ],
)
def test_which_certificate_may_speak(
    known: Certified | None, shown: str | None, verdict: Verdict
) -> None:
    assert admission.judge(known, shown) is verdict


def test_the_old_certificate_is_good_until_the_new_one_was_used(
    desk: Desk, keys: DeviceKeys
) -> None:
    def shown(key_sha256: str) -> Verdict:
        with desk.database.reading() as session:
            return admission.judge(admission.look_up(session, "gw-1"), key_sha256)

    serial = first(desk, keys)
    old = desk.device().key_sha256
    desk.renew(keys, serial)
    new = desk.device().key_sha256
    assert (shown(old), shown(new)) == (Verdict.ADMITTED, Verdict.ADMITTED_FIRST)
    with desk.database.transaction() as session:
        admission.note_first_use(session, "gw-1", new, desk.now)
    assert (shown(old), shown(new)) == (Verdict.SUPERSEDED, Verdict.ADMITTED)
