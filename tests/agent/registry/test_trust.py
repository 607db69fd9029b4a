"""Which manifests are obeyed."""

from __future__ import annotations

import msgspec
import pytest
from simulators.signed import Release, Signer, release
from sprat_agent.registry.trust import trusted_manifest
from sprat_agent.sync.ports import ExecutionError
from sprat_proto import assignment
from sprat_proto.assignment import AssignedModel
from sprat_proto.states import ReasonCode

PUBLISHER, OTHER, STRANGER = Signer(), Signer("other"), Signer("stranger")
ONE, TWO = release(PUBLISHER), release(PUBLISHER, "2.0.0")
KEYS = [PUBLISHER.trusted, OTHER.trusted]


def refusal(envelope: bytes, wanted: AssignedModel) -> ExecutionError:
    with pytest.raises(ExecutionError) as caught:
        trusted_manifest(envelope, wanted, KEYS)
    return caught.value


def test_a_manifest_of_any_pinned_publisher_is_obeyed_and_its_signer_named() -> None:
    for signer in (PUBLISHER, OTHER):
        one = release(signer)
        signed = trusted_manifest(one.envelope, one.wanted("e"), KEYS)
        assert signed.manifest == one.manifest
        assert signed.signer == f"{signer.name} ({signer.key.key_id[:12]})"


def test_a_strangers_manifest_is_refused_by_name() -> None:
    one = release(STRANGER)
    error = refusal(one.envelope, one.wanted("e"))
    assert error.code is ReasonCode.SIGNER_UNKNOWN
    assert "publisher" in error.expected
    assert STRANGER.key.key_id[:12] in error.found


def test_another_manifest_of_the_same_publisher_is_refused() -> None:
    error = refusal(TWO.envelope, ONE.wanted("e"))
    assert (error.code, error.expected, error.found) == (
        ReasonCode.DIGEST_MISMATCH,
        ONE.digest,
        TWO.digest,
    )


def test_names_that_the_publisher_did_not_sign_are_refused() -> None:
    lying = msgspec.structs.replace(ONE.wanted("e"), release="9.9.9")
    error = refusal(ONE.envelope, lying)
    assert error.code is ReasonCode.MANIFEST_INVALID
    assert (error.expected, error.found) == ("talk@9.9.9+q4_0", "talk@1.0.0+q4_0")


def test_a_signature_over_something_else_is_no_signature_over_a_manifest() -> None:
    envelope = PUBLISHER.key.sign(b"{}", assignment.PAYLOAD_TYPE)
    assert refusal(envelope, ONE.wanted("e")).code is ReasonCode.SIGNATURE_INVALID


@pytest.mark.parametrize("position", range(0, len(ONE.envelope), 97))
def test_no_changed_byte_passes(position: int) -> None:
    changed = bytearray(ONE.envelope)
    changed[position] ^= 4
    assert _refused_or_same(bytes(changed), ONE)


def _refused_or_same(envelope: bytes, one: Release) -> bool:
    """A changed byte in JSON may still say the same; it never says something else."""
    try:
        return trusted_manifest(envelope, one.wanted("e"), KEYS).manifest == one.manifest
    except ExecutionError as error:
        return bool(error.message)
