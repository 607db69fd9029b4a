"""Publishers are made known by offline keys, not by the controller."""

from __future__ import annotations

from pathlib import Path

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner
from simulators.image_keys import targets_file
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Sprat
from sprat_controller.signer.keys import tuf_key
from sprat_controller.trust.checks import Change, delegations, fault
from sprat_controller.trust.folder import Metadata
from sprat_controller.trust.words import name_of, read
from sprat_proto.trust import IMAGE
from tuf.api.metadata import Targets

Files = dict[str, Path]


def newest(api: OperatorApi) -> Targets:
    data = Metadata(IMAGE, api.trust["image"]).newest("targets")[1]
    return read(data, Targets, "targets").signed


def test_a_publisher_is_delegated_to_by_enough_offline_keys(
    sprat: Sprat, api: OperatorApi, files: Files
) -> None:
    before = Metadata(IMAGE, dict(api.trust["image"]))
    said = sprat(
        *("publishers", "add", "someone", str(files["pub"]), "--keys", str(files["offline"])),
        *("--hardware", "cpu-aarch64", "-o", "json"),
    )
    assert said.status == 0, said
    assert "pub-someone may sign m/someone/*/* for cpu-aarch64" in said.errors
    top = newest(api)
    role = delegations(top)["pub-someone"]
    key = tuf_key(files["pub"].read_text())
    assert (role.keyids, role.threshold, role.terminating) == ([key.keyid], 1, True)
    assert said.json == {"name": "someone", "key_id": key.keyid, "targets": 2}
    assert top.delegations is not None
    assert name_of(top.delegations.keys[key.keyid]).startswith("someone (")
    added = {"2.targets.json": api.trust["image"]["2.targets.json"]}
    assert fault(Change(before, added), sprat.now) is None


def test_keys_may_be_named_one_by_one(sprat: Sprat, api: OperatorApi, files: Files) -> None:
    keys = [files["offline"] / f"image-targets-{number}.pem" for number in (1, 3)]
    options = [word for key in keys for word in ("--sign-with", str(key))]
    assert sprat("publishers", "add", "someone", str(files["pub"]), *options).status == 0
    assert newest(api).version == 2


def test_one_offline_key_is_not_enough(sprat: Sprat, api: OperatorApi, files: Files) -> None:
    key = str(files["offline"] / "image-targets-1.pem")
    said = sprat("publishers", "add", "someone", str(files["pub"]), "--sign-with", key)
    said.assert_one_sentence(64)
    assert "expected 2 of the keys image-targets-1" in said.errors
    assert newest(api).version == 1


def test_a_known_publisher_gets_another_key_by_a_ceremony_only(sprat: Sprat, files: Files) -> None:
    options = ("--keys", str(files["offline"]))
    assert sprat("publishers", "add", "someone", str(files["pub"]), *options).status == 0
    said = sprat("publishers", "add", "someone", str(files["pub"]), *options)
    said.assert_one_sentence(5)
    assert "sprat trust ceremony" in said.errors


def test_offline_keys_sign_no_change_of_what_others_signed(
    sprat: Sprat, api: OperatorApi, files: Files
) -> None:
    forged = newest(api)
    forged.version = 2
    api.trust["image"] |= targets_file("targets", forged, [CryptoSigner.generate_ed25519()])
    said = sprat(
        *("publishers", "add", "someone", str(files["pub"]), "--keys", str(files["offline"]))
    )
    said.assert_one_sentence(6)
    assert "signed by others" in " ".join(said.errors.split())


def test_publishers_are_listed(sprat: Sprat, files: Files) -> None:
    assert files
    assert sprat("publishers", "list").lines[0][0] == "me"
