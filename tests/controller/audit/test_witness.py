"""T34 of the adversarial tests: a customer's witness refuses to cosign a rewritten log."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from simulators.audit_log import ORIGIN, AuditLog
from sprat_controller.audit.witness import Keeper, WitnessRefusedError, cosign, follow
from sprat_proto import notes

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
