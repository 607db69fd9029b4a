from __future__ import annotations

import json
import stat
from pathlib import Path

from simulators.operator_api import URL, OperatorApi
from simulators.sprat_command import Sprat
from sprat_proto.claim import read_file

DEFAULTS: dict[str, object] = {"group": "default", "labels": {}, "grace_days": 365, "ttl_s": 86400}


def test_enrolment_tokens_are_made_listed_and_revoked(sprat: Sprat) -> None:
    made = sprat(
        *("enrolment", "create", "gw-9", "--label", "site=lyon", "--ttl", "3600"), "-o", "json"
    )
    assert made.json["token"] == "secret-id-1"
    assert sprat.api.bodies[-1] == {
        **DEFAULTS,
        "device_id": "gw-9",
        "labels": {"site": "lyon"},
        "ttl_s": 3600,
    }
    listed = sprat("enrolment", "list").lines[0]
    assert listed[:5] == ["id-1", "gw-9", "0 of 1", "default", "site=lyon"]
    assert "secret" not in "".join(listed)
    assert sprat("enrolment", "revoke", "id-1").status == 0


def test_a_batch_is_bound_to_its_group_and_hardware(sprat: Sprat) -> None:
    said = sprat(
        *("enrolment", "create", "--batch", "kiosk", "--count", "50", "--group", "shop"),
        *("--hardware", "cpu-aarch64", "--grace-days", "30"),
    )
    assert said.status == 0
    assert sprat.api.bodies[-1] == {
        **DEFAULTS,
        "prefix": "kiosk",
        "count": 50,
        "group": "shop",
        "hardware_id": "cpu-aarch64",
        "grace_days": 30,
    }
    assert sprat("enrolment", "list").lines[0][1:3] == ["kiosk-*", "0 of 50"]


def test_a_token_is_a_picture_for_its_owner_only(sprat: Sprat, tmp_path: Path) -> None:
    for name, begins in (("code.svg", b"<?xml"), ("code.png", b"\x89PNG")):
        assert sprat("enrolment", "create", "gw-9", "--qr", str(tmp_path / name)).status == 0
        picture = tmp_path / name
        assert picture.read_bytes().startswith(begins)
        assert stat.S_IMODE(picture.stat().st_mode) == 0o600


def test_a_claim_file_holds_what_an_image_needs(sprat: Sprat, tmp_path: Path) -> None:
    root, made = tmp_path / "root.json", tmp_path / "claim.json"
    root.write_text('{"signed":{"_type":"root"}}')
    said = sprat(
        *("enrolment", "create", "--batch", "kiosk", "--count", "2"),
        *("--image-file", str(made), "--image-root", str(root)),
    )
    assert said.status == 0
    claim = read_file(made.read_bytes())
    assert (claim.controller, claim.token, claim.image_root) == (
        URL,
        "secret-id-1",
        root.read_text(),
    )
    assert set(json.loads(made.read_text())) == {"controller", "token", "image_root"}
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_no_token_is_made_for_a_file_that_cannot_be(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    (tmp_path / "there.svg").write_text("mine")
    said = sprat("enrolment", "create", "gw-9", "--qr", str(tmp_path / "there.svg"))
    said.assert_one_sentence(1)
    assert (tmp_path / "there.svg").read_text() == "mine"
    assert api.lists["enrolment-tokens"] == []
