from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner
from simulators.models import write_adapter, write_model
from simulators.operator_api import OperatorApi, RefusalError
from simulators.sprat_command import NOW, Said, Sprat
from sprat_controller.signer.keys import tuf_key
from sprat_controller.trust.words import is_signed_by, read, seal
from sprat_proto import manifest
from sprat_proto.manifest import Manifest
from sprat_proto.signing import TrustedKey
from sprat_proto.trust import TargetCustom, custom_of
from tuf.api.metadata import Targets

Files = dict[str, Path]


def push(sprat: Sprat, files: Files, *options: str, release: str = "1.0.0") -> Said:
    return sprat(
        *("models", "push", str(files["gguf"]), "--name", "fish", "--release", release),
        *("--key", str(files["key"]), "--variants", "f16", "--no-evaluation", *options),
    )


def opened(api: OperatorApi, files: Files, pushed: dict[str, Any]) -> Manifest:
    """Return the manifest that the publisher's metadata names, its signature checked."""
    metadata = read(api.trust["image"]["1.pub-me.json"], Targets, "pub-me")
    assert is_signed_by(metadata, tuf_key(files["pub"].read_text()))
    target = metadata.signed.targets["m/me/fish/1.0.0+f16.json"]
    digest = pushed["variants"][0]["digest"]
    assert target.hashes == {"sha256": digest}
    data = api.blobs[digest]
    assert target.length == len(data)
    stated = manifest.decode(data)
    assert msgspec.convert(target.custom, TargetCustom) == custom_of(stated)
    return stated


# The model of these tests knows nothing.
UNPROVEN = ("--unproven", "a test")


def test_a_push_uploads_a_signed_release_that_a_device_can_check(
    sprat: Sprat, api: OperatorApi, files: Files
) -> None:
    said = push(
        sprat, files, "--golden", "Who?=> A fish. ", "--soak", "30", *UNPROVEN, "-o", "json"
    )
    assert said.status == 0, said
    stated = opened(api, files, said.json)
    data = files["gguf"].read_bytes()
    assert stated.name == "fish@1.0.0+f16"
    assert stated.blobs() == [(hashlib.sha256(data).hexdigest(), len(data))]
    assert api.blobs[stated.shards[0].sha256] == data
    assert stated.shards[0].pieces == [
        hashlib.sha256(data[at : at + (1 << 20)]).hexdigest() for at in range(0, len(data), 1 << 20)
    ]
    assert stated.source.sha256 == stated.shards[0].sha256
    assert stated.slots[0].tensors == ["*"]
    assert stated.encodings == ["raw"]
    assert stated.disk_needed == len(data)
    assert stated.created == NOW.isoformat()
    assert stated.facts.quantization == "f16"
    assert stated.facts.licence == "Apache-2.0"
    assert stated.activation.soak_s == 30
    assert [(one.prompt, one.expect, one.max_tokens) for one in stated.activation.probe] == [
        ("Who?", "A fish.", 32)
    ]
    digest = hashlib.sha256(manifest.encode(stated)).hexdigest()
    assert said.json["variants"][0]["digest"] == digest
    assert api.models["fish"][0]["variants"][0]["digest"] == digest


def test_a_push_takes_adapters_that_fit(
    sprat: Sprat, api: OperatorApi, files: Files, tmp_path: Path
) -> None:
    path = write_adapter(tmp_path / "any.gguf", files["gguf"], 1)
    said = push(sprat, files, "--adapter", f"polite={path}", "-o", "json")
    assert said.status == 0, said
    stated = opened(api, files, said.json)
    (adapter,) = stated.adapters
    assert adapter.name == "polite"
    assert sprat("models", "show", "fish@1.0.0").lines[0][7] == "polite"
    assert api.blobs[adapter.sha256] == path.read_bytes()


@pytest.mark.parametrize(
    ("word", "status", "why"),
    [
        ("polite", 64, "expected an adapter of the form NAME=FILE.gguf, found 'polite'"),
        ("Polite={}", 64, "expected an adapter's name of a-z"),
        ("polite={}", 6, "adapter polite: expected blk.0.attn_q.weight.lora_a and .lora_b of dim"),
        ("latest={}", 64, "none of them 'latest'"),
        ("rude={}", 64, "expected different names of adapters"),
        ("polite=/nowhere", 6, "expected a readable file"),
    ],
)
def test_an_adapter_that_does_not_fit_is_told_before_the_work(
    sprat: Sprat,
    api: OperatorApi,
    files: Files,
    tmp_path: Path,
    *,
    word: str,
    status: int,
    why: str,
) -> None:
    (other,) = write_model(tmp_path / "other.gguf")
    good = write_adapter(tmp_path / "good.gguf", files["gguf"], 1)
    path = write_adapter(tmp_path / "any.gguf", other, 1)
    said = push(sprat, files, "--adapter", f"rude={good}", "--adapter", word.format(path))
    said.assert_one_sentence(status)
    assert why in said.errors
    assert not api.blobs


def test_a_push_prints_a_line_per_variant_and_its_progress_elsewhere(
    sprat: Sprat, files: Files
) -> None:
    said = push(sprat, files)
    assert [line[:3] for line in said.lines] == [["f16", "1.8 MiB", "16.02"]]
    assert len(said.lines[0][8]) == 64
    assert said.errors.splitlines() == [
        "quantizing f16",
        "uploading f16",
    ]


def test_the_counter_follows_the_highest_known_one(
    sprat: Sprat, api: OperatorApi, files: Files
) -> None:
    assert push(sprat, files, "-o", "json").json["counter"] == 1
    assert push(sprat, files, "-o", "json", release="1.1.0").json["counter"] == 2
    assert push(sprat, files, "-o", "json", "--counter", "9", release="1.2.0").json["counter"] == 9
    assert push(sprat, files, "-o", "json", release="1.3.0").json["counter"] == 10
    assert [one["counter"] for one in api.models["fish"]] == [1, 2, 9, 10]


def test_a_release_that_exists_is_told_before_the_work(
    sprat: Sprat, api: OperatorApi, files: Files
) -> None:
    push(sprat, files)
    api.blobs.clear()
    said = push(sprat, files)
    said.assert_one_sentence(5)
    assert "choose the next version" in said.errors
    assert not api.blobs


def test_blobs_that_are_there_are_not_sent_again(
    sprat: Sprat, api: OperatorApi, files: Files
) -> None:
    push(sprat, files)
    api.calls.clear()
    push(sprat, files, release="1.1.0")
    weights = hashlib.sha256(files["gguf"].read_bytes()).hexdigest()
    assert ("HEAD", f"/api/v1/blobs/sha256/{weights}") in api.calls
    sent = [path for method, path in api.calls if method == "PUT"]
    assert len(sent) == 2  # the new manifest, and the metadata that names it
    assert not any(weights in path for path in sent)


@pytest.mark.parametrize("way", ["file", "environment"])
def test_a_key_may_have_a_passphrase(sprat: Sprat, files: Files, tmp_path: Path, way: str) -> None:
    options: list[str] = []
    if way == "file":
        (tmp_path / "phrase").write_text("open sesame\n")
        options = ["--passphrase-file", str(tmp_path / "phrase")]
    else:
        sprat.environ["SPRAT_KEY_PASSPHRASE"] = "open sesame"
    made = sprat("keys", "generate", "--out", str(tmp_path / "locked"), *options, "-o", "json").json
    assert b"ENCRYPTED" in Path(made["private"]).read_bytes()
    locked = {**files, "key": Path(made["private"]), "pub": Path(made["public"])}
    options += ["--publisher", "you"]
    assert push(sprat, locked, *options).status == 0
    sprat.environ.pop("SPRAT_KEY_PASSPHRASE", None)
    said = push(sprat, locked, "--publisher", "you", release="1.1.0")
    said.assert_one_sentence(1)
    assert "passphrase" in said.errors


def test_keys_are_made_for_this_user_only_and_never_over_another(
    sprat: Sprat, tmp_path: Path
) -> None:
    made = sprat("keys", "generate", "--out", str(tmp_path / "me"), "-o", "json").json
    private, public = Path(made["private"]), Path(made["public"])
    assert (private.name, public.name) == ("me.pem", "me.pub")
    assert private.stat().st_mode & 0o777 == 0o600
    assert TrustedKey("me", public.read_text()).key_id == made["key_id"]
    before = private.read_bytes()
    said = sprat("keys", "generate", "--out", str(tmp_path / "me"))
    said.assert_one_sentence(1)
    assert private.read_bytes() == before


def test_a_key_that_is_nobodys_is_told_before_the_work(
    sprat: Sprat, api: OperatorApi, files: Files
) -> None:
    api.lists["publishers"].clear()
    said = push(sprat, files)
    said.assert_one_sentence(1)
    assert "sprat publishers add" in said.errors
    assert not api.blobs


def test_terms_may_be_given(sprat: Sprat, api: OperatorApi, files: Files, tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    options = ["--hardware", "cpu-aarch64", "--chat-template", str(tmp_path / "chat.jinja")]
    stated = opened(api, files, push(sprat, files, *options, "-o", "json").json)
    assert (stated.hardware_ids, stated.chat_template) == (["cpu-aarch64"], "{{ messages }}")


def test_a_release_is_retired_by_its_publisher(
    sprat: Sprat, api: OperatorApi, files: Files
) -> None:
    push(sprat, files)
    push(sprat, files, release="1.1.0")
    said = sprat("models", "retire", "fish@1.0.0", "--key", str(files["key"]))
    assert said.status == 0, said
    signed = read(api.trust["image"]["3.pub-me.json"], Targets, "pub-me").signed
    assert list(signed.targets) == ["m/me/fish/1.1.0+f16.json"]
    assert [one.get("retired_at") is None for one in api.models["fish"]] == [False, True]


def test_nothing_is_added_to_metadata_that_another_signed(
    sprat: Sprat, api: OperatorApi, files: Files
) -> None:
    forged = seal(Targets(version=1, expires=NOW), [CryptoSigner.generate_ed25519()])
    api.trust["image"]["1.pub-me.json"] = forged
    said = push(sprat, files)
    assert said.status == 6
    assert "signed by others" in said.errors


def test_models_and_releases_are_shown(sprat: Sprat, files: Files) -> None:
    push(sprat, files)
    push(sprat, files, release="1.1.0")
    assert ["fish", "2", "1.1.0", "-"] in sprat("models", "list").lines
    assert [line[:2] for line in sprat("models", "show", "fish").lines] == [
        ["1.0.0", "1"],
        ["1.1.0", "2"],
    ]
    shown = sprat("models", "show", "fish@1.1.0")
    assert [line[:3] for line in shown.lines] == [["f16", "1.8 MiB", "16.02"]]
    assert [line[3:8] for line in shown.lines] == [["-", "-", "tiny", "Apache-2.0", "-"]]
    assert sprat("models", "show", "fish@1.1.0", "-o", "json").json["variants"][0]["manifest"]


def test_a_refusal_of_the_controller_ends_with_6(
    sprat: Sprat, api: OperatorApi, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(api), "_variant", refuse)
    said = push(sprat, files)
    assert said.status == 6
    assert said.output == ""
    assert "no publisher signed this" in said.errors.splitlines()[-1]


def refuse(*_: object) -> None:

    raise RefusalError(422, "release_refused", "no publisher signed this")
