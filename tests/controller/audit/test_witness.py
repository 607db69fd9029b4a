"""T34 of the adversarial tests: a customer's witness refuses to cosign a rewritten log."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from simulators.audit_log import ORIGIN, AuditLog
from sprat_controller.audit.restoration import Restoration, State
from sprat_controller.audit.witness import (
    Keeper,
    WitnessRefusedError,
    accept,
    cosign,
    follow,
)
from sprat_proto import notes
from sprat_proto.merkle import EMPTY_ROOT
from sprat_proto.notes import Checkpoint, Note

NOW_S = 1_795_000_000


def keeper(log: AuditLog) -> Keeper:
    return Keeper("customer.example/w", bytes(range(32, 64)).hex(), log.vkey)


def ask(kept: Keeper, log: AuditLog) -> tuple[Keeper, notes.Signature]:
    """Ask as the verb does: with the proof that the log of now gives."""
    seen, size = kept.seen, len(log.records)
    old = seen.size if seen is not None else size
    proof = [base64.b64decode(one) for one in log.proof(old, size)] if old <= size else []
    return cosign(kept, notes.read_note(log.note()), proof, NOW_S)


def test_a_log_that_grows_is_cosigned_each_time() -> None:
    log = AuditLog()
    kept = keeper(log)
    for more in (0, 0, 1, 300):
        log.append(more)
        kept, signature = ask(kept, log)
        note = notes.read_note(log.note()).signed(signature)
        (found,) = notes.verify(note, [kept.vkey])
        assert found.time_s == NOW_S
        assert kept.seen is not None
        assert kept.seen.size == len(log.records)


@pytest.mark.parametrize("more", [0, 1, 300])
def test_t34_a_rewritten_log_is_not_cosigned_though_its_own_key_signed_it(more: int) -> None:
    log = AuditLog()
    kept, _ = ask(keeper(log), log)
    log.rewrite()
    log.append(more)
    with pytest.raises(WitnessRefusedError, match="it was rewritten"):
        ask(kept, log)


def test_t34_a_shortened_log_is_not_cosigned() -> None:
    log = AuditLog()
    kept, _ = ask(keeper(log), log)
    del log.records[-1]
    with pytest.raises(WitnessRefusedError, match="it was shortened"):
        ask(kept, log)


def test_another_logs_checkpoint_is_not_cosigned() -> None:
    log = AuditLog()
    stranger = AuditLog(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(WitnessRefusedError, match=f"no checkpoint of {ORIGIN}"):
        cosign(keeper(log), notes.read_note(stranger.note()), [], NOW_S)


def test_a_witness_follows_the_log_to_its_next_key_only_while_both_sign() -> None:
    log = AuditLog()
    kept, _ = ask(keeper(log), log)
    log.append(3)
    log.replace_key()
    following = notes.read_key(log.vkey)
    kept, _ = ask(kept, log)  # by the key that it knows
    moved = follow(kept, following, notes.read_note(log.note()))
    assert moved.log == log.vkey
    assert moved.seen == kept.seen
    assert follow(moved, following, notes.read_note(log.note())) == moved
    log.former = None
    log.append(1)
    with pytest.raises(WitnessRefusedError, match=f"no checkpoint of {ORIGIN}"):
        ask(kept, log)
    with pytest.raises(WitnessRefusedError, match="that both"):
        follow(kept, following, notes.read_note(log.note()))
    ask(moved, log)


def test_t34_a_log_that_was_rewritten_under_its_next_key_is_not_cosigned() -> None:
    log = AuditLog()
    kept, _ = ask(keeper(log), log)
    log.replace_key()
    log.rewrite()
    moved = follow(kept, notes.read_key(log.vkey), notes.read_note(log.note()))
    with pytest.raises(WitnessRefusedError, match="it was rewritten"):
        ask(moved, log)


def test_another_logs_key_is_not_followed() -> None:
    log, other = AuditLog(), Ed25519PrivateKey.generate()
    kept, _ = ask(keeper(log), log)
    text = notes.read_note(log.note()).text
    names = (ORIGIN, "another/audit")
    note = notes.Note(text).signed(
        notes.sign(log.private, ORIGIN, text), notes.sign(other, names[1], text)
    )
    with pytest.raises(WitnessRefusedError, match="that both"):
        follow(kept, notes.verifier_key(other, names[1]), note)


def test_a_checkpoint_of_another_origin_is_not_cosigned_though_the_logs_key_signed_it() -> None:
    log = AuditLog()
    text = str(Checkpoint("other/audit", 5, state(log).root))
    note = Note(text).signed(notes.sign(log.private, ORIGIN, text))
    with pytest.raises(WitnessRefusedError, match="found other/audit"):
        cosign(keeper(log), note, [], NOW_S)


def state(log: AuditLog) -> State:
    found = notes.read_checkpoint(notes.read_note(log.note()).text)
    return State(found.size, found.root)


def restored(log: AuditLog, number: int, before: State, after: State, origin: str = ORIGIN) -> str:
    """Return what the log's key says of a restoration."""
    text = str(Restoration(origin, number, before, after))
    return str(Note(text).signed(notes.sign(log.private, ORIGIN, text)))


def go_back(log: AuditLog, number: int, size: int) -> str:
    """Lose records as after a backup, and go on with others."""
    before = state(log)
    del log.records[size:]
    said = restored(log, number, before, state(log) if size else State(0, EMPTY_ROOT))
    log.rewrite_next()
    return said


def test_a_restored_log_goes_on_once_the_witness_is_told() -> None:
    log = AuditLog()
    kept, _ = ask(keeper(log), log)
    said = [go_back(log, 1, 3)]
    log.append(4)
    with pytest.raises(WitnessRefusedError, match="it was rewritten"):
        ask(kept, log)
    kept = accept(kept, said)
    assert kept.seen is not None
    assert (kept.seen.size, kept.accepted) == (3, said)
    kept, _ = ask(kept, log)
    with pytest.raises(WitnessRefusedError, match="was not restored since"):
        accept(kept, said)


def test_of_several_restorations_the_last_says_from_where_it_goes_on() -> None:
    log = AuditLog()
    log.append(5)
    kept, _ = ask(keeper(log), log)
    said = [go_back(log, 1, 7), go_back(log, 2, 4)]
    kept = accept(kept, said)
    assert kept.seen is not None
    assert kept.seen.size == 4
    log.append(9)
    ask(kept, log)


def test_a_log_that_was_restored_to_nothing_begins_anew() -> None:
    log = AuditLog()
    kept, _ = ask(keeper(log), log)
    kept = accept(kept, [go_back(log, 1, 0)])
    assert kept.seen is None
    log.append(2)
    ask(kept, log)


def test_a_restoration_of_before_the_witness_looked_does_not_stand_in_the_way() -> None:
    log = AuditLog()
    said = [go_back(log, 1, 3)]
    log.append(20)
    kept, _ = ask(keeper(log), log)
    said.append(go_back(log, 2, 12))
    log.append(1)
    kept = accept(kept, said)
    assert kept.seen is not None
    assert kept.seen.size == 12
    ask(kept, log)


def test_what_is_no_restoration_of_what_was_seen_is_not_accepted() -> None:
    log, other = AuditLog(), AuditLog()
    log.append(5)
    kept, _ = ask(keeper(log), log)
    seen, fewer = state(log), State(9, bytes(32))
    after = State(3, bytes(range(32)))
    stranger = AuditLog(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    for statements, why in (
        ([restored(log, 1, fewer, after)], "gave up 9 records, and had 10"),
        ([restored(log, 1, State(10, bytes(32)), after)], "gave up other records"),
        ([restored(log, 2, seen, after)], "numbered from 1"),
        ([restored(log, 1, seen, after)] * 2, "numbered from 1"),
        ([restored(stranger, 1, seen, after)], "no restoration of"),
        ([restored(log, 1, seen, after, "other/audit")], "no restoration of"),
        ([other.note()], "no restoration of"),
        (["none"], "no restoration of"),
        ([], "was not restored"),
    ):
        with pytest.raises(WitnessRefusedError, match=why):
            accept(kept, statements)
    first = restored(log, 1, seen, after)
    told = accept(kept, [first])
    others = [restored(log, 1, State(11, bytes(32)), after), restored(log, 2, seen, after)]
    with pytest.raises(WitnessRefusedError, match="are not there any more"):
        accept(told, others)
    with pytest.raises(WitnessRefusedError, match="are not there any more"):
        accept(told, [])
