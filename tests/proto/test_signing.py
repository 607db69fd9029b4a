from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto.signing import (
    KeyFileError,
    SignatureRefusedError,
    SigningKey,
    TrustedKey,
    check_public_pem,
    generate_private_pem,
    merge,
    verify,
)
from sprat_proto.states import ReasonCode

TYPE = "application/vnd.test+json"
KEY = SigningKey(generate_private_pem())
OTHER = SigningKey(generate_private_pem())
TRUSTED = TrustedKey("publisher", KEY.public_pem)
STRANGER = TrustedKey("stranger", OTHER.public_pem)
ENVELOPE = KEY.sign(b'{"a":1}', TYPE)


def test_what_a_trusted_key_signed_is_returned_with_its_signer() -> None:
    verified = verify(ENVELOPE, TYPE, [STRANGER, TRUSTED])
    assert verified.payload == b'{"a":1}'
    assert verified.signers == (TRUSTED,)
    assert KEY.key_id == TRUSTED.key_id != STRANGER.key_id


def refusal(envelope: bytes, *trusted: TrustedKey, kind: str = TYPE) -> SignatureRefusedError:
    with pytest.raises(SignatureRefusedError) as caught:
        verify(envelope, kind, trusted)
    assert caught.value.expected
    assert caught.value.found
    return caught.value


def test_an_unknown_signer_is_named_beside_the_known_ones() -> None:
    error = refusal(ENVELOPE, STRANGER)
    assert error.code is ReasonCode.SIGNER_UNKNOWN
    assert "stranger" in error.expected
    assert KEY.key_id[:12] in error.found


def test_nobody_is_trusted_by_default() -> None:
    assert refusal(ENVELOPE).code is ReasonCode.SIGNER_UNKNOWN


def test_a_signature_over_one_type_is_none_over_another() -> None:
    assert refusal(ENVELOPE, TRUSTED, kind="application/other").code is ReasonCode.SIGNATURE_INVALID
    relabelled = {**json.loads(ENVELOPE), "payloadType": "application/other"}
    error = refusal(json.dumps(relabelled).encode(), TRUSTED, kind="application/other")
    assert error.code is ReasonCode.SIGNATURE_INVALID


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(ENVELOPE), **fields}).encode()


def test_a_changed_payload_is_refused() -> None:
    forged = changed(payload=base64.b64encode(b'{"a":2}').decode())
    assert refusal(forged, TRUSTED).code is ReasonCode.SIGNATURE_INVALID


def test_a_signature_under_a_trusted_name_must_be_by_that_key() -> None:
    theirs = json.loads(OTHER.sign(b'{"a":1}', TYPE))["signatures"][0]["sig"]
    forged = changed(signatures=[{"keyid": KEY.key_id, "sig": theirs}])
    assert refusal(forged, TRUSTED).code is ReasonCode.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        changed(signatures="none"),
        changed(signatures=[{}]),
        changed(payload="%"),
        changed(payload=7),
    ],
)
def test_what_is_no_envelope_is_refused(envelope: bytes) -> None:
    assert refusal(envelope, TRUSTED).code in (
        ReasonCode.SIGNATURE_INVALID,
        ReasonCode.SIGNER_UNKNOWN,
    )


def test_an_envelope_without_signatures_is_refused() -> None:
    assert refusal(changed(signatures=[]), TRUSTED).code is ReasonCode.SIGNER_UNKNOWN


@given(at=st.integers(0, len(ENVELOPE) - 1), byte=st.integers(0, 255))
def test_no_changed_byte_changes_what_is_accepted(at: int, byte: int) -> None:
    mutant = ENVELOPE[:at] + bytes([byte]) + ENVELOPE[at + 1 :]
    try:
        verified = verify(mutant, TYPE, [TRUSTED])
    except SignatureRefusedError:
        return
    assert verified.payload == b'{"a":1}'


@given(st.binary(max_size=100), st.text(min_size=1, max_size=30))
def test_any_payload_of_any_type_comes_back(payload: bytes, kind: str) -> None:
    assert verify(KEY.sign(payload, kind), kind, [TRUSTED]).payload == payload


def test_a_key_may_have_a_passphrase() -> None:
    pem = generate_private_pem(b"secret")
    assert b"ENCRYPTED" in pem
    assert SigningKey(pem, b"secret").key_id
    for password in (None, b"wrong"):
        with pytest.raises(KeyFileError):
            SigningKey(pem, password)


PEM = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"text",
        ec.generate_private_key(ec.SECP256R1()).private_bytes(*PEM),
        KEY.public_pem.encode(),
    ],
    ids=["empty", "text", "another algorithm", "public"],
)
def test_other_files_are_no_signing_keys(pem: bytes) -> None:
    with pytest.raises(KeyFileError, match="expected an Ed25519 private key"):
        SigningKey(pem)


def test_other_files_are_no_public_keys() -> None:
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    other = rsa_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for pem in ("", "text", other, generate_private_pem().decode()):
        with pytest.raises(KeyFileError, match="expected an Ed25519 public key"):
            check_public_pem(pem)


def test_a_public_key_has_one_normal_form() -> None:
    assert check_public_pem("\n# mine\n" + KEY.public_pem + "\n\n") == KEY.public_pem


def test_a_threshold_counts_different_trusted_keys_that_signed_the_same_bytes() -> None:
    both = merge([ENVELOPE, OTHER.sign(b'{"a":1}', TYPE)])
    assert verify(both, TYPE, [TRUSTED, STRANGER], 2).signers == (TRUSTED, STRANGER)
    for trusted in ([TRUSTED], [TRUSTED, TRUSTED], [STRANGER]):
        with pytest.raises(SignatureRefusedError) as caught:
            verify(both, TYPE, trusted, 2)
        assert caught.value.code is ReasonCode.SIGNER_UNKNOWN
        assert caught.value.expected.startswith("2 of ")


def test_only_envelopes_over_the_same_bytes_are_merged() -> None:
    for others in ([], [ENVELOPE, KEY.sign(b"{}", TYPE)], [ENVELOPE, KEY.sign(b'{"a":1}', "x/y")]):
        with pytest.raises(SignatureRefusedError, match="envelopes over one payload"):
            merge(others)
