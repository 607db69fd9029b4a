from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto import notes
from sprat_proto.merkle import inclusion_proof, leaf_hash, node_hash
from sprat_proto.notes import (
    COSIGNER,
    Checkpoint,
    InclusionProof,
    Note,
    NoteError,
    cosign,
    read_checkpoint,
    read_inclusion_proof,
    read_key,
    read_note,
    read_signature,
    sign,
    verifier_key,
    verify,
)

LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
ORIGIN = "fleet.example/audit"
WITNESS = "customer.example/witness"
ROOT = leaf_hash(b"one")
TEXT = str(Checkpoint(ORIGIN, 1, ROOT))
NOW_S = 1_795_000_000

# Made by others: the example of C2SP signed-note, that of Go's package, and a real log's words.
C2SP_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2"
    "ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_NOTE = (
    f"{GO_TEXT}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg"
    "KvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
SUMDB_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB_NOTE = (
    "go.sum database tree\n6476701\nmb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=\n\n"
    "— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimW"
    "EPWL+o3GeoWwOoAw=\n"
)


@pytest.mark.parametrize(
    ("key", "note"), [(C2SP_KEY, C2SP_NOTE), (GO_KEY, GO_NOTE), (SUMDB_KEY, SUMDB_NOTE)]
)
def test_notes_of_others_are_read_and_verified(key: str, note: str) -> None:
    read, known = read_note(note), read_key(key)
    assert str(known) == key
    assert str(read) == note
    assert [one.key for one in verify(read, [known])] == [known]


def test_our_signatures_are_those_of_others() -> None:
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(GO_SEED)[1:])
    assert str(verifier_key(private, "PeterNeumann")) == GO_KEY
    note = Note(GO_TEXT).signed(sign(private, "PeterNeumann", GO_TEXT))
    assert str(note) == GO_NOTE


def test_a_real_logs_checkpoint_is_read() -> None:
    checkpoint = read_checkpoint(read_note(SUMDB_NOTE).text)
    assert (checkpoint.origin, checkpoint.size) == ("go.sum database tree", 6_476_701)


def checkpoint_note() -> Note:
    return Note(TEXT).signed(sign(LOG_KEY, ORIGIN, TEXT))


def test_a_witness_signs_a_time_and_the_whole_text() -> None:
    signature = cosign(WITNESS_KEY, WITNESS, TEXT, NOW_S)
    known = verifier_key(WITNESS_KEY, WITNESS, COSIGNER)
    # Word for word as C2SP tlog-cosignature has it.
    message = f"cosignature/v1\ntime {NOW_S}\n{TEXT}".encode()
    WITNESS_KEY.public_key().verify(signature.body[8:], message)
    assert int.from_bytes(signature.body[:8]) == NOW_S
    log = verifier_key(LOG_KEY, ORIGIN)
    found = verify(checkpoint_note().signed(signature), [log, known])
    assert [(one.key, one.time_s) for one in found] == [(log, None), (known, NOW_S)]


def test_the_kind_of_a_key_is_part_of_its_id() -> None:
    log, witness = (verifier_key(LOG_KEY, ORIGIN, kind) for kind in (notes.LOG, COSIGNER))
    assert log.key_id != witness.key_id
    with pytest.raises(NoteError, match="found it signed by"):
        verify(checkpoint_note(), [witness])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fleet.example/audit\n1", "fleet.example/audit\n2"),
        ("fleet.example/audit\n1", "fleet.example/audit\n1\nmore"),
    ],
)
def test_another_text_is_not_signed(old: str, new: str) -> None:
    note = checkpoint_note().signed(cosign(WITNESS_KEY, WITNESS, TEXT, NOW_S))
    changed = replace(note, text=note.text.replace(old, new))
    for key in (verifier_key(LOG_KEY, ORIGIN), verifier_key(WITNESS_KEY, WITNESS, COSIGNER)):
        with pytest.raises(NoteError, match="is not of this text"):
            verify(changed, [key])


def test_the_time_of_a_cosignature_is_signed() -> None:
    signature = cosign(WITNESS_KEY, WITNESS, TEXT, NOW_S)
    later = replace(signature, body=(NOW_S + 1).to_bytes(8) + signature.body[8:])
    with pytest.raises(NoteError, match="is not of this text"):
        verify(Note(TEXT, (later,)), [verifier_key(WITNESS_KEY, WITNESS, COSIGNER)])


def test_a_good_signature_does_not_make_up_for_a_wrong_one_of_a_known_key() -> None:
    wrong = replace(checkpoint_note().signatures[0], body=bytes(64))
    note = checkpoint_note().signed(wrong)
    with pytest.raises(NoteError, match="is not of this text"):
        verify(note, [verifier_key(LOG_KEY, ORIGIN)])


def test_signatures_of_unknown_keys_say_nothing() -> None:
    stranger = replace(checkpoint_note().signatures[0], key_id=b"none", body=bytes(3))
    log = verifier_key(LOG_KEY, ORIGIN)
    assert [one.key for one in verify(checkpoint_note().signed(stranger), [log])] == [log]
    for note in (Note(TEXT, (stranger,)), Note(TEXT)):
        with pytest.raises(NoteError, match=r"expected a note signed by fleet\.example/audit"):
            verify(note, [log])


def test_a_signature_stands_once() -> None:
    note = checkpoint_note()
    assert note.signed(*note.signatures, *note.signatures) == note


@pytest.mark.parametrize(
    ("note", "found"),
    [
        ("", "another form"),
        ("text\n", "another form"),
        ("text\n\n", "another form"),
        ("text\n\n— a AAAAAAA=", "another form"),
        ("text\n— a AAAAAAA=\n", "another form"),
        ("text\n\n- a AAAAAAA=\n", "expected a line"),
        ("text\n\n— a\n", "expected a line"),
        ("text\n\n— a+b AAAAAAA=\n", "expected a name"),
        ("text\n\n—  AAAAAAA=\n", "expected a name"),
        ("text\n\n— a\u2003b AAAAAAA=\n", "expected a name"),
        ("text\n\n— a AAAA====\n", "base64"),
        ("text\n\n— a AAAAAAB=\n", "another spelling"),
        ("text\n\n— a AAAA\n", "too short"),
        ("text\n\n— a AAAAAA==\n", "too short"),
        ("te\txt\n\n— a AAAAAAA=\n", "control characters"),
        ("te\rxt\n\n— a AAAAAAA=\n", "control characters"),
        ("text\n\n" + "— a AAAAAAA=\n" * 65, "at most 64 signatures"),
        ("x" * (64 << 10) + "\n\n— a AAAAAAA=\n", "found a longer one"),
    ],
)
def test_what_is_no_note_is_refused(note: str, found: str) -> None:
    with pytest.raises(NoteError, match=found):
        read_note(note)


def test_a_text_may_have_empty_lines() -> None:
    text = "one\n\n\ntwo\n"
    note = Note(text).signed(sign(LOG_KEY, ORIGIN, text))
    assert read_note(str(note)) == note


@pytest.mark.parametrize("text", ["", "no end", "a\0b\n"])
def test_what_can_not_be_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(NoteError):
        sign(LOG_KEY, ORIGIN, text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "x" * 256])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(NoteError, match="expected a name"):
        sign(LOG_KEY, name, TEXT)
    with pytest.raises(NoteError, match="expected a name"):
        cosign(LOG_KEY, name, TEXT, NOW_S)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("", "NAME"),
        ("a+b", "NAME"),
        ("a+b+", "NAME"),
        ("a b+c+AAAA", "expected a name"),
        ("a+b+AAAA", "expected kind"),
        ("a+b+AgAA", "expected kind 1 or 4, found 2"),
        ("a+b+AQAA", "expected 32 bytes, found 2"),
        (GO_KEY.replace("c74f20a3", "c74f20a4"), "it was changed on the way"),
        (GO_KEY.replace("c74f20a3", "C74F20A3"), "it was changed on the way"),
        (GO_KEY.replace("PeterN", "PeterM"), "it was changed on the way"),
        (GO_KEY.replace("ARpc", "ARpd"), "it was changed on the way"),
    ],
)
def test_what_is_no_key_is_refused(key: str, found: str) -> None:
    with pytest.raises(NoteError, match=found):
        read_key(key)


HASH = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"a\n1\n{HASH}",
        f"\n1\n{HASH}\n",
        "a\n1\n",
        f"a\n-1\n{HASH}\n",
        f"a\n01\n{HASH}\n",
        f"a\n+1\n{HASH}\n",
        f"a\n1_0\n{HASH}\n",
        f"a\n \u0661\n{HASH}\n",
        f"a\n9223372036854775808\n{HASH}\n",
        f"a\n99999999999999999999\n{HASH}\n",
        f"a\n1\n{HASH[:-4]}\n",
        f"a\n1\n{HASH[:-1]}\n",
        f"a\n1\n{HASH}\n\n",
        f"a\n1\n{HASH}\n\nmore\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError, match="expected"):
        read_checkpoint(text)
    with pytest.raises(NoteError, match="expected"):
        cosign(WITNESS_KEY, WITNESS, text, NOW_S)


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_is_read_as_it_was_written(size: int, root: bytes) -> None:
    made = Checkpoint("fleet.example/audit", size, root, ("more",))
    assert read_checkpoint(str(made)) == made


def test_a_proof_of_inclusion_goes_with_its_checkpoint() -> None:
    leaves = [leaf_hash(b"one"), leaf_hash(b"two")]
    hashes = inclusion_proof(1, 2, lambda _, index: leaves[index])
    text = str(Checkpoint(ORIGIN, 2, node_hash(*leaves)))
    note = Note(text).signed(sign(LOG_KEY, ORIGIN, text))
    made = InclusionProof(1, tuple(hashes), note)
    lines = str(made).split("\n")
    assert lines[:4] == [
        *("c2sp.org/tlog-proof@v1", "index 1", base64.b64encode(leaves[0]).decode()),
        *("",),
    ]
    assert read_inclusion_proof(str(made)) == made
    for extra in (b"", b"what it is about"):
        assert read_inclusion_proof(str(replace(made, extra=extra))).extra == extra


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v2\nindex 1",
        "c2sp.org/tlog-proof@v1",
        "c2sp.org/tlog-proof@v1\nextra AAAA",
        "c2sp.org/tlog-proof@v1\nextra !\nindex 1",
        "c2sp.org/tlog-proof@v1\nindex one",
        "c2sp.org/tlog-proof@v1\nindex 01",
        "c2sp.org/tlog-proof@v1\nindex 1\nAAAA",
        "c2sp.org/tlog-proof@v1\nindex 1\n" + "\n".join([HASH] * 64),
    ],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(NoteError, match="expected"):
        read_inclusion_proof(f"{text}\n\n{checkpoint_note()}")


@given(st.text())
def test_no_text_makes_reading_fail_otherwise(text: str) -> None:
    readers = (read_note, read_key, read_signature, read_checkpoint, read_inclusion_proof)
    for read in readers:
        try:
            read(text)
        except NoteError:
            continue


@given(st.integers(0, 200), st.integers(0, 255))
def test_no_flipped_byte_of_a_note_verifies(at: int, byte: int) -> None:
    written = str(checkpoint_note()).encode()
    at %= len(written)
    if written[at] == byte:
        return
    changed = written[:at] + bytes([byte]) + written[at + 1 :]
    log = verifier_key(LOG_KEY, ORIGIN)
    try:
        note = read_note(changed.decode())
        verify(note, [log])
    except (NoteError, UnicodeDecodeError):
        return
    pytest.fail(f"verified with byte {at} changed to {byte}")
