from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from simulators.audit_log import AuditLog
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Sprat
from sprat_controller.audit.export import MAX_LINE_BYTES
from sprat_controller.audit.restoration import Restoration, State
from sprat_proto import notes

TAGS = ["operator:rollout:created", "operator:rollout:started"]


@pytest.fixture(autouse=True)
def records(api: OperatorApi) -> list[dict[str, Any]]:
    api.audit = [
        {
            "seq": number,
            "body": {
                "seq": number,
                "ts": f"2026-11-23T10:00:{number:02}+00:00",
                "actor": {"type": "token", "id": "root" if number < 5 else "ci"},
                "tag": TAGS[number % 2],
                "subject": "rollout/r-1",
                "outcome": "success",
                "detail": {"devices": number},
            },
        }
        for number in range(1, 11)
    ]
    return api.audit


@pytest.mark.parametrize("device", [[], ["--device", "gw-1"]])
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], list(range(1, 11))),
        (["--limit", "3"], [1, 2, 3]),
        (["--after", "8"], [9, 10]),
        (["--tag", TAGS[1]], [1, 3, 5, 7, 9]),
        (["--tag", TAGS[1], "--limit", "2"], [1, 3]),
        (["--actor", "token:ci", "--tag", TAGS[0]], [6, 8, 10]),
    ],
)
def test_records_are_listed_oldest_first_and_filtered(
    sprat: Sprat, device: list[str], options: list[str], found: list[int]
) -> None:
    said = sprat("audit", "list", *device, *options)
    assert [int(line[0]) for line in said.lines] == found
    as_json = sprat("audit", "list", *device, *options, "-o", "json").json
    assert [item["body"]["seq"] for item in as_json["items"]] == found


def test_a_record_says_who_did_what_to_which_thing(sprat: Sprat) -> None:
    assert sprat("audit", "list", "--limit", "1").lines == [
        [
            *("1", "2026-11-23T10:00:01+00:00", "token:root", "operator:rollout:started"),
            *("rollout/r-1", "success", "devices=1"),
        ]
    ]


@pytest.mark.parametrize("device", [[], ["--device", "gw-1"]])
def test_an_unbroken_log_verifies(sprat: Sprat, device: list[str]) -> None:
    said = sprat("audit", "verify", *device, "-o", "json")
    assert said.status == 0
    assert said.json == {"ok": True, "records": 10}


@pytest.mark.parametrize("device", [[], ["--device", "gw-1"]])
def test_a_broken_log_ends_with_6(sprat: Sprat, api: OperatorApi, device: list[str]) -> None:
    api.audit_ok = False
    said = sprat("audit", "verify", *device)
    assert said.status == 6
    assert said.lines[0] == ["ok", "no"]
    assert "was changed" in said.errors


def exported(sprat: Sprat, folder: Path) -> Path:
    file = folder / "audit.jsonl"
    assert sprat("audit", "export", str(file)).status == 0
    return file


def test_an_export_is_checked_without_the_controller(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    file, vkey = exported(sprat, tmp_path), tmp_path / "fleet.vkey"
    vkey.write_text(sprat("audit", "key", "-o", "json").json["vkey"])
    api.answer = lambda _: pytest.fail("the controller was asked")
    said = sprat("audit", "verify", str(file), "--key", str(vkey), "-o", "json")
    assert (said.status, said.json["result"], said.json["records"]) == (0, "intact", 5)


@pytest.mark.parametrize("form", ["table", "tsv", "json"])
def test_a_key_is_read_as_it_is_shown_from_a_file_of_any_name(
    sprat: Sprat, tmp_path: Path, form: str
) -> None:
    file, kept = exported(sprat, tmp_path), tmp_path / "the+key"
    kept.write_text(sprat("audit", "key", "-o", form).output)
    assert sprat("audit", "verify", str(file), "--key", str(kept)).status == 0
    kept.write_text("nothing of the kind")
    sprat("audit", "verify", str(file), "--key", str(kept)).assert_one_sentence(64)


def test_the_status_tells_what_is_wrong_with_an_export(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    file = exported(sprat, tmp_path)
    good, vkey = file.read_bytes(), api.log.vkey
    other = AuditLog(Ed25519PrivateKey.from_private_bytes(bytes(32))).vkey
    for data, key, status, result in (
        (good.replace(b"success", b"failure", 1), vkey, 1, "tampered"),
        (good[:-20], vkey, 2, "incomplete"),
        (b"", vkey, 2, "incomplete"),
        (good, other, 3, "unknown_key"),
    ):
        file.write_bytes(data)
        said = sprat("audit", "verify", str(file), "--key", key, "-o", "json")
        assert (said.status, said.json["result"]) == (status, result)
    sprat("audit", "verify", str(file)).assert_one_sentence(64)


def test_an_export_that_is_refused_leaves_no_file(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    answer = {"error": {"code": "audit_not_signed", "message": "try again"}}
    api.answer = lambda _: httpx.Response(409, json=answer)
    assert sprat("audit", "export", str(tmp_path / "audit.jsonl")).status != 0
    assert list(tmp_path.iterdir()) == []
    sprat("audit", "export", str(tmp_path / "none" / "audit.jsonl")).assert_one_sentence(1)


def test_what_cannot_be_read_is_not_called_tampered_with(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    file, vkey = exported(sprat, tmp_path), api.log.vkey
    for path, key in (
        (tmp_path, vkey),
        (tmp_path / "none", vkey),
        (file, str(tmp_path / "none")),
        (file, str(tmp_path)),
        (file, "no+key"),
        (file, vkey[:-8]),
    ):
        sprat("audit", "verify", str(path), "--key", key).assert_one_sentence(64)


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"\x1f\x8b\x08\0", 1, "unpack it"),
        (b"[" * 100_000 + b"\n", 1, "expected the first line"),
        (b'{"sprat_device_log":' + b"[" * 100_000 + b"\n", 1, "of a device's log"),
        (b'{"sprat_device_log":1,"x":' + b"[" * 100_000 + b"\n", 1, "recursion depth"),
        (b'{"sprat_device_log":', 2, "cut off"),
        (b'{"sprat_audit_export":', 2, "cut off"),
        (b'{"sprat_audit_export":' + b" " * MAX_LINE_BYTES, 1, "at most 16 MiB"),
        (b'{"sprat_audit_consistency":' + b"[" * 100_000, 1, "proves nothing"),
        (b"c2sp.org/tlog-proof@v1\n" + b"A" * (2 << 20), 1, "at most 1 MiB"),
        (b"c2sp.org/tlog-proof@v1\n\xff\n", 1, "proves nothing"),
    ],
)
def test_no_file_is_a_crash(
    sprat: Sprat, api: OperatorApi, tmp_path: Path, *, data: bytes, status: int, said: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    found = sprat("audit", "verify", str(file), "--key", api.log.vkey)
    assert found.status == status
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert said in found.errors
    assert found.errors.count("\n") == 1


def test_a_witness_that_cannot_keep_what_it_saw_cosigns_nothing(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    new = ("--name", "customer/w", "--log", api.log.vkey)
    state = tmp_path / "none" / "witness.json"
    said = sprat("audit", "witness", "--state", str(state), *new)
    said.assert_one_sentence(1)
    assert "cannot be written" in said.errors
    state = tmp_path / "witness.json"
    assert sprat("audit", "witness", "--state", str(state), *new).status == 0
    kept = json.loads(state.read_bytes())
    for changed in (
        {"log": "none"},
        {"checkpoint": "none"},
        {"private": "zz"},
        {"private": "00"},
        {"name": "a name"},
        {"more": 1},
    ):
        state.write_text(json.dumps(kept | changed))
        said = sprat("audit", "witness", "--state", str(state), "--accept-restore")
        said.assert_one_sentence(1)
        assert "as this verb makes it" in said.errors


def test_a_witness_cosigns_what_grew_and_t34_refuses_what_was_rewritten(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    state = tmp_path / "witness.json"
    first = sprat(
        *("audit", "witness", "--state", str(state), "--name", "customer/w"),
        *("--log", api.log.vkey, "-o", "json"),
    )
    assert first.status == 0
    assert state.stat().st_mode & 0o077 == 0
    key = notes.read_key(first.json["witness"])
    notes.verify(notes.read_note(first.json["note"]), [key])
    api.log.append(7)
    assert sprat("audit", "witness", "--state", str(state)).status == 0
    assert len(api.log.cosigned) == 2
    kept = state.read_bytes()
    api.log.rewrite()
    said = sprat("audit", "witness", "--state", str(state))
    assert said.status == 6
    assert "it was rewritten" in said.errors
    assert len(api.log.cosigned) == 2
    assert state.read_bytes() == kept


def test_an_export_for_another_system_asks_for_its_format(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["format"])
        headers = {"content-type": "text/plain; charset=utf-8"}
        return httpx.Response(200, content=b"CEF:0|\n", headers=headers)

    api.answer = answer
    file = tmp_path / "audit.cef"
    assert sprat("audit", "export", str(file), "--format", "cef").status == 0
    assert (asked, file.read_bytes()) == (["cef"], b"CEF:0|\n")
    sprat("audit", "export", str(file), "--format", "xml").assert_one_sentence(64)


def shown(api: OperatorApi) -> None:
    """Have the records that are listed be those of the log."""
    api.audit[:] = [
        {"seq": seq, "body": json.loads(body)} for seq, body in enumerate(api.log.records, start=1)
    ]


def test_a_proof_of_a_record_is_checked_without_the_controller(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    shown(api)
    file, key = tmp_path / "2.tlog-proof", api.log.vkey
    assert sprat("audit", "prove", "2", "--out", str(file)).status == 0
    text = file.read_text()
    assert text.startswith("c2sp.org/tlog-proof@v1\nextra ")
    assert notes.read_inclusion_proof(text).extra == api.log.records[1]
    said = sprat("audit", "verify", str(file), "--key", key, "-o", "json")
    assert (said.status, said.json["result"]) == (0, "intact")
    assert said.json["message"] == "record 2 is in the log of 5, as signed"
    forged = base64.b64encode(api.log.records[1].replace(b"success", b"failure")).decode()
    wrong = text.replace(text.splitlines()[1], f"extra {forged}")
    other = AuditLog(Ed25519PrivateKey.from_private_bytes(bytes(32))).vkey
    for data, by, status in (
        (wrong, key, 1),
        (text.replace("index 1", "index 2"), key, 1),
        (text[:-30], key, 1),
        (text.replace(text.splitlines()[1] + "\n", ""), key, 1),
        (text, other, 3),
    ):
        file.write_text(data)
        assert sprat("audit", "verify", str(file), "--key", by).status == status
    api.log.rewrite()
    sprat("audit", "prove", "2").assert_one_sentence(6)


def test_a_proof_that_the_log_only_grew_is_checked_without_the_controller(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    old = api.log.note()
    api.log.append(4)
    api.notes = {5: old}
    file = tmp_path / "proof.json"
    assert sprat("audit", "prove", "--from", "5", "--out", str(file)).status == 0
    good = file.read_bytes()
    said = sprat("audit", "verify", str(file), "--key", api.log.vkey, "-o", "json")
    assert said.json["message"] == "the log of 9 begins with the log of 5, both as signed"
    api.log.rewrite()
    proof = json.loads(good)
    proof["new"] = api.log.note()
    for data in (json.dumps(proof, separators=(",", ":")).encode(), good[:-9], good + b"x"):
        file.write_bytes(data)
        assert sprat("audit", "verify", str(file), "--key", api.log.vkey).status == 1


def test_a_witness_is_told_the_logs_next_key(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    state = str(tmp_path / "witness.json")
    first = api.log.vkey
    sprat("audit", "witness", "--state", state, "--name", "customer/w", "--log", first)
    api.log.append(2)
    api.log.replace_key()
    said = sprat("audit", "witness", "--state", state, "--log", api.log.vkey)
    assert said.status == 0, said.errors
    api.log.former = None
    api.log.append(2)
    assert sprat("audit", "witness", "--state", state).status == 0
    refused = sprat("audit", "witness", "--state", state, "--log", first)
    refused.assert_one_sentence(6)


def test_a_witness_that_is_told_accepts_a_restored_log_and_refuses_before(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    state = str(tmp_path / "witness.json")
    api.log.append(7)
    sprat("audit", "witness", "--state", state, "--name", "customer/w", "--log", api.log.vkey)
    before = notes.read_checkpoint(notes.read_note(api.log.note()).text)
    del api.log.records[5:]
    after = notes.read_checkpoint(notes.read_note(api.log.note()).text)
    api.log.append(2)
    assert "it was shortened" in sprat("audit", "witness", "--state", state).errors
    told = ("audit", "witness", "--state", state, "--accept-restore")
    assert "was not restored" in sprat(*told).errors
    states = [State(one.size, one.root) for one in (before, after)]
    text = str(Restoration(before.origin, 1, *states))
    note = notes.Note(text).signed(notes.sign(api.log.private, before.origin, text))
    api.restored = [str(note)]
    assert sprat("audit", "witness", "--state", state).status == 6
    assert sprat(*told).status == 0
    api.log.append(1)
    assert sprat("audit", "witness", "--state", state).status == 0
