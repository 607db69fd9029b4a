from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from simulators import frozen
from simulators.operator_api import OperatorApi
from simulators.sprat_command import NOW, Sprat
from sprat_agent.bundle.archive import Archive
from sprat_proto import bundle, canonical, signing
from sprat_proto.assignment import ServingTerms
from sprat_proto.policy import FitPolicy
from sprat_proto.signing import SigningKey, TrustedKey, generate_private_pem, verify

HEADER = canonical.encode(bundle.Header(schema=1, made="now", devices=["gw-1"]))
MODEL = b"weights" * 1000
STATE = (
    *("bundle", "state", "--group", "lyon", "--alias", "assistant"),
    *("--release", "talk@1.0.0", "--variant", "q4_0"),
)


@pytest.fixture
def stocked(api: OperatorApi) -> OperatorApi:
    frozen.freeze(api, "r-1")
    api.blobs[hashlib.sha256(MODEL).hexdigest()] = MODEL
    api.bundle = [(bundle.HEADER, HEADER), ("director/1.root.json", b"root")]
    return api


def key_file(folder: Path, name: str) -> tuple[Path, SigningKey]:
    pem = generate_private_pem()
    path = folder / name
    path.write_bytes(pem)
    path.chmod(0o600)
    return path, SigningKey(pem)


def test_a_bundle_holds_what_the_controller_says_and_an_agent_reads_it(
    sprat: Sprat, stocked: OperatorApi, tmp_path: Path
) -> None:
    out = tmp_path / "gw-1.sprat"
    said = sprat("bundle", "export", "--device", "gw-1", "--out", str(out), "-o", "json")
    assert said.status == 0
    assert said.json["bytes"] == out.stat().st_size
    with Archive(out) as archive:
        assert archive.header.devices == ["gw-1"]
        assert archive.read("director/1.root.json") == b"root"
        for sha256, data in stocked.blobs.items():
            assert archive.read(bundle.blob_name(sha256)) == data


def test_the_same_contents_make_the_same_bytes(
    sprat: Sprat, stocked: OperatorApi, tmp_path: Path
) -> None:
    del stocked
    for name in ("one", "two"):
        assert (
            sprat("bundle", "export", "--device", "gw-1", "--out", f"{tmp_path}/{name}").status == 0
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("wrong", [MODEL[:-1], MODEL + b"x", b"x" * len(MODEL)])
def test_a_blob_that_is_not_what_its_name_says_leaves_no_bundle(
    sprat: Sprat, stocked: OperatorApi, tmp_path: Path, wrong: bytes
) -> None:
    sha256 = hashlib.sha256(MODEL).hexdigest()
    stocked.sizes[sha256] = len(MODEL)  # it says the size that was published
    stocked.blobs[sha256] = wrong
    said = sprat("bundle", "export", "--device", "gw-1", "--out", str(tmp_path / "x.sprat"))
    assert said.status == 6
    assert [path.name for path in tmp_path.iterdir() if "sprat" in path.name] == []


def test_a_member_that_no_bundle_has_is_refused(
    sprat: Sprat, stocked: OperatorApi, tmp_path: Path
) -> None:
    stocked.bundle.append(("../evil", b"x"))
    said = sprat("bundle", "export", "--device", "gw-1", "--out", str(tmp_path / "x.sprat"))
    said.assert_one_sentence(6)


@pytest.mark.usefixtures("stocked")
def test_a_statement_is_drafted_here_signed_by_two_and_carried_as_it_is(
    sprat: Sprat, tmp_path: Path
) -> None:
    out = tmp_path / "lyon.json"
    said = sprat(*STATE, "--out", str(out), "--days", "90")
    assert said.status == 0, said
    assert said.errors.splitlines()[:2] == [
        f"group     lyon, statement {int(NOW.timestamp())}",
        f"runs      assistant: ann/talk@1.0.0+q4_0, sha256 {frozen.SPEC.digests[0]}",
    ]
    trusted: list[TrustedKey] = []
    for name in ("one", "two"):
        path, key = key_file(tmp_path, f"{name}.pem")
        trusted.append(TrustedKey(name, key.public_pem))
        assert sprat("bundle", "sign", str(out), "--key", str(path), "--yes").status == 0
    signed = verify(out.read_bytes(), bundle.STATEMENT_TYPE, trusted, 2)
    statement = bundle.decode_statement(signed.payload)
    assert statement.not_after - statement.issued == bundle.MAX_LIFE_S
    assert statement.models[0].size == len(frozen.MANIFEST)
    args = ("bundle", "export", "--statement", str(out), "--out", str(tmp_path / "g.sprat"))
    assert sprat(*args).status == 0
    assert sprat.api.bodies[-1] == {"statement": out.read_text()}


def test_terms_and_policy_are_told_before_they_are_signed(sprat: Sprat, tmp_path: Path) -> None:
    one = msgspec.structs.replace(
        frozen.STATEMENT.models[0],
        serving=ServingTerms(slots=2),
        policy=FitPolicy(max_memory_bytes=1 << 30),
    )
    stated = bundle.encode_statement(msgspec.structs.replace(frozen.STATEMENT, models=[one]))
    draft = tmp_path / "drafted.json"
    draft.write_bytes(signing.unsigned(stated, bundle.STATEMENT_TYPE))
    said = sprat("bundle", "sign", str(draft), "--key", str(key_file(tmp_path, "k.pem")[0]))
    assert "served    2 slots, keys and values f16" in said.errors.splitlines()
    assert "policy    quality-first, at most 1024 MiB of memory" in said.errors.splitlines()


def test_nothing_is_signed_unasked(sprat: Sprat, files: dict[str, Path]) -> None:
    before = files["statement"].read_bytes()
    said = sprat("bundle", "sign", str(files["statement"]), "--key", str(files["key"]))
    assert said.status == 64
    assert files["statement"].read_bytes() == before


@pytest.mark.usefixtures("stocked")
def test_another_manifest_under_the_digest_is_not_stated(
    sprat: Sprat, api: OperatorApi, tmp_path: Path
) -> None:
    api.blobs[frozen.SPEC.digests[0]] = frozen.MANIFEST + b" "
    sprat(*STATE, "--out", str(tmp_path / "x")).assert_one_sentence(6)
    assert not (tmp_path / "x").exists()
