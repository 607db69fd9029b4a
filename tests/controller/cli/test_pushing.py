"""`sprat models push` from a folder to a release: what is measured, refused, written and kept."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from simulators import demo_model, hf_models
from simulators.full_disk import small_disk
from simulators.models import write_adapter
from simulators.operator_api import OperatorApi
from simulators.sprat_command import NOW, Said, Sprat
from sprat_controller.publisher.evaluate.calibration import default_text, sha256_of
from sprat_controller.publisher.evaluate.table import percent
from sprat_controller.publisher.quantize import quantize
from sprat_controller.registry import evaluations
from sprat_proto import manifest
from sprat_proto.manifest import Manifest
from sprat_proto.policy import Aim, FitPolicy

Files = dict[str, Path]
# One chunk is enough to tell forms apart, and rates of a busy machine say nothing.
QUICK = ("--evaluation-tokens", "255", "--no-rates")
NAMED = ("--name", "tiny", "--release", "1.0.0")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder."""
    return hf_models.write(tmp_path_factory.mktemp("hf") / "tiny-llama", "llama")


def push(sprat: Sprat, files: Files, source: Path, *options: str) -> Said:
    return sprat("models", "push", str(source), *NAMED, "--key", str(files["key"]), *options)


def stated(api: OperatorApi, digest: str) -> Manifest:
    return manifest.decode(api.blobs[digest])


def last_line(said: Said) -> str:
    assert said.output == ""
    assert "Traceback" not in said.errors
    line = said.errors.splitlines()[-1]
    assert line.startswith("sprat: ")
    assert "this is a bug" not in line
    return line


def test_a_folder_becomes_a_release_that_says_what_it_lost(
    sprat: Sprat, api: OperatorApi, files: Files, folder: Path
) -> None:
    variants = ("--variants", "f16,q8_0,q4_0")
    said = push(sprat, files, folder, *variants, *QUICK, "--origin", "our own", "-o", "json")
    assert said.status == 0, said
    steps = said.errors.splitlines()
    assert steps[:4] == ["converting", "quantizing f16", "quantizing q8_0", "quantizing q4_0"]
    assert steps[-3:] == ["uploading f16", "uploading q8_0", "uploading q4_0"]
    assert any(line.startswith("variant ") and "quality loss" in line for line in steps)

    released = [stated(api, one["digest"]) for one in said.json["variants"]]
    assert list(evaluations.faults(released)) == []
    f16, q8_0, q4_0 = (one.evaluation for one in released)
    assert f16
    assert q8_0
    assert q4_0
    assert f16.kl_nano == f16.loss_ppm == 0 <= q8_0.loss_ppm < q4_0.loss_ppm
    assert {one.reference for one in (f16, q8_0, q4_0)} == {"f16"}
    assert {one.text_sha256 for one in (f16, q8_0, q4_0)} == {sha256_of(default_text())}
    assert f16.tokens == 255
    assert {one.facts.licence for one in released} == {"apache-2.0"}
    assert {one.source.origin for one in released} == {"our own"}

    lines = sprat("models", "show", "tiny@1.0.0").lines
    assert [line[0] for line in lines] == ["f16", "q4_0", "q8_0"]
    losses = {line[0]: line[3] for line in lines}
    assert losses["f16"] == "0.000 %"
    assert losses["q4_0"] == percent(q4_0.loss_ppm / 1e6)
    assert all(float(line[4]) > 1 for line in lines)
    assert {line[5] for line in lines} == {"tiny"}


PIPELINE = """\
# Paths are meant from here.
schema: 1
source: {source}
model: tiny
release: 1.0.0
key: {key}
variants: [q8_0, q4_0]
licence: MIT
origin: https://example.org/tiny
chat_template: chat.jinja
hardware: [cpu-x86_64]
adapters:
  polite: polite.gguf
golden:
  - prompt: Who?
    expect: A fish.
    match: equals
    max_tokens: 8
soak_s: 60
unproven: it knows nothing
evaluation:
  calibration: text.txt
  tokens: 255
  rates: false
  max_quality_loss: 50%
policy:
  aim: speed-first
  min_decode_tps: 7.5
  max_memory: 512MiB
  max_quality_loss: 2.5
outputs:
  report: [report.json, report.md]
  picture: picture.svg
"""


@pytest.fixture
def pipeline(files: Files, tmp_path: Path, gguf_file: Path) -> Path:
    """A pipeline that says everything, with all files beside it."""
    path = tmp_path / "push.yaml"
    path.write_text(PIPELINE.format(source=gguf_file, key=files["key"].name))
    (tmp_path / "chat.jinja").write_text("{{ tools }}{{ messages }}")
    (tmp_path / "text.txt").write_text(default_text()[:20_000])
    write_adapter(tmp_path / "polite.gguf", gguf_file, 1)
    return path


def test_a_pipelines_file_says_all_of_it(
    sprat: Sprat, api: OperatorApi, pipeline: Path, tmp_path: Path
) -> None:
    said = sprat("models", "push", "--pipeline", str(pipeline), "-o", "json")
    assert said.status == 0, said
    first = stated(api, said.json["variants"][0]["digest"])
    assert first.name == "tiny@1.0.0+q8_0"
    assert (first.facts.licence, first.facts.has_tools) == ("MIT", True)
    assert first.source.origin == "https://example.org/tiny"
    assert first.hardware_ids == ["cpu-x86_64"]
    assert [one.name for one in first.adapters] == ["polite"]
    assert msgspec.to_builtins(first.activation.probe) == [
        {"prompt": "Who?", "expect": "A fish.", "match": "equals", "max_tokens": 8}
    ]
    assert first.activation.soak_s == 60
    assert api.bodies[-1]["unproven"] == "it knows nothing"
    assert first.policy == FitPolicy(
        aim=Aim.SPEED_FIRST,
        min_decode_milli_tps=7500,
        max_memory_bytes=512 << 20,
        max_loss_ppm=25_000,
    )
    text = (tmp_path / "text.txt").read_bytes()
    assert first.evaluation
    assert first.evaluation.text_sha256 == hashlib.sha256(text).hexdigest()

    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert report == said.json["evaluation"]
    assert [one["variant"] for one in report["variants"]] == ["q8_0", "q4_0"]
    assert "| q4_0 |" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "picture.svg").read_text().startswith("<svg")


def test_options_say_anew_what_a_pipelines_file_says(
    sprat: Sprat, api: OperatorApi, pipeline: Path
) -> None:
    options = ("--release", "2.0.0", "--variants", "q5_1", "--no-evaluation", "--soak", "0")
    pipeline.write_text(
        "\n".join(
            line
            for line in pipeline.read_text().splitlines()
            if "max_quality_loss: 50%" not in line and not line.startswith(("outputs", "  report"))
            if not line.startswith("  picture")
        )
    )
    said = sprat("models", "push", "--pipeline", str(pipeline), *options, "-o", "json")
    assert said.status == 0, said
    only = stated(api, said.json["variants"][0]["digest"])
    assert only.name == "tiny@2.0.0+q5_1"
    assert (only.activation.soak_s, only.evaluation) == (0, None)
    assert only.activation.probe
    assert only.policy.max_loss_ppm == 25_000


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("release: 1.0.0", "release: 1.0"), "line 5: release: expected text, found a number"),
        (("variants:", "varaints:"), "there is no key 'varaints': did you mean 'variants'?"),
        (("  tokens: 255", "  tokens: 1"), "line 23: evaluation.tokens: expected a whole number"),
        (
            ("    expect: A fish.\n", ""),
            "line 15: golden[0]: expected the key 'expect', found none",
        ),
        (("source: ", "source: &it "), "line 3: expected no anchors"),
        (("schema: 1", "schema: 2"), "line 2: schema: "),
        (("  aim: speed-first", "  aim: fastest"), "expected an aim of quality-first, speed-"),
        (("2.5", "a lot"), "expected percent of quality"),
        (("512MiB", "half"), "expected a size"),
        (("q4_0]", "q4_9]"), "expected different variants of f16"),
        (("model: tiny\n", ""), "give --name, or `model` in a pipeline's file"),
        (("report.json", "report.html"), "expected a file .json or .md, found 'report.html'"),
        (("  polite:", "  latest:"), "none of them 'latest'"),
        (("cpu-x86_64", "toaster"), "expected hardware of"),
    ],
)
def test_what_is_wrong_in_a_pipelines_file_is_told_with_its_place(
    sprat: Sprat, api: OperatorApi, pipeline: Path, change: tuple[str, str], why: str
) -> None:
    text = pipeline.read_text()
    assert change[0] in text
    pipeline.write_text(text.replace(*change))
    said = sprat("models", "push", "--pipeline", str(pipeline))
    said.assert_one_sentence(64)
    assert why in said.errors
    assert not api.blobs


def test_a_dry_run_needs_no_controller_and_no_key_and_publishes_nothing(
    sprat: Sprat, api: OperatorApi, folder: Path
) -> None:
    sprat.environ.clear()
    source = ("models", "push", str(folder), *NAMED, "--variants", "q4_0")
    said = sprat(*source, "--dry-run", *QUICK, "-o", "json")
    assert said.status == 0, said
    assert said.json["is_published"] is False
    assert said.json["variants"][0]["digest"] is None
    assert said.json["evaluation"]["variants"][0]["variant"] == "q4_0"
    assert not api.calls


def test_what_is_kept_is_whole_and_can_be_published_later(
    sprat: Sprat, api: OperatorApi, files: Files, folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    source = ("models", "push", str(folder), *NAMED, "--variants", "q8_0,q4_0")
    assert sprat(*source, "--output-dir", str(kept), *QUICK).status == 0
    assert sorted(path.name for path in kept.iterdir()) == [
        "evaluation.json",
        "evaluation.md",
        "evaluation.svg",
        "tiny-1.0.0-q4_0.gguf",
        "tiny-1.0.0-q8_0.gguf",
    ]
    assert not api.blobs
    later = ("--variants", "q4_0", "--no-evaluation", "-o", "json")
    said = push(sprat, files, kept / "tiny-1.0.0-q4_0.gguf", *later)
    shard = stated(api, said.json["variants"][0]["digest"]).shards[0]
    assert api.blobs[shard.sha256] == (kept / "tiny-1.0.0-q4_0.gguf").read_bytes()


@pytest.mark.parametrize(
    ("said", "found"),
    [("", "''"), ("q4_0,,q8_0", "''"), ("q9_9", "'q9_9'"), ("q4_0;q8_0", "'q4_0;")],
)
def test_a_variant_that_there_is_not_is_named(
    sprat: Sprat, files: Files, folder: Path, said: str, found: str
) -> None:
    refused = push(sprat, files, folder, "--variants", said)
    refused.assert_one_sentence(64)
    assert f"found {found}" in refused.errors


def test_variants_that_lose_too_much_are_refused_or_left_out(
    sprat: Sprat, api: OperatorApi, files: Files, folder: Path, tmp_path: Path
) -> None:
    limited = ("--variants", "q8_0,q4_0", "--max-quality-loss", "0.001%", *QUICK)
    report = tmp_path / "report.json"
    said = push(sprat, files, folder, *limited, "--report", str(report))
    assert said.status == 6
    assert "check quality: q4_0 loses 0." in last_line(said)
    assert "at most 0.001 % is allowed" in last_line(said)
    assert not api.blobs
    assert len(json.loads(report.read_text())["variants"]) == 2  # what was measured is not lost

    said = push(sprat, files, folder, *limited, "--drop-worse", "-o", "json")
    assert said.status == 0, said
    assert [one["variant"] for one in said.json["variants"]] == ["q8_0"]
    assert said.json["evaluation"]["dropped"] == ["q4_0"]
    none_left = ("--variants", "q4_0", *limited[2:], "--drop-worse", "--release", "2.0.0")
    assert "no variant is left" in last_line(push(sprat, files, folder, *none_left))


def test_what_is_quantized_already_cannot_be_compared(
    sprat: Sprat, api: OperatorApi, files: Files, gguf_file: Path, tmp_path: Path
) -> None:
    quantize(gguf_file, tmp_path / "q4.gguf", "q4_0")
    said = push(sprat, files, tmp_path / "q4.gguf", "--variants", "q4_0")
    said.assert_one_sentence(1)
    assert "push the original, or add --no-evaluation" in said.errors
    said = push(sprat, files, tmp_path / "q4.gguf", "--variants", "q8_0", "--no-evaluation")
    assert "push the original instead" in last_line(said)
    assert not api.blobs


def test_ternary_variants_are_of_ternary_models_only(
    sprat: Sprat, api: OperatorApi, files: Files, gguf_file: Path
) -> None:
    said = push(sprat, files, gguf_file, "--variants", "q8_0,tq1_0", "--no-evaluation")
    assert "expected ternary weights" in last_line(said)
    assert said.errors.splitlines()[0] == "quantizing tq1_0"  # before the hours of all others
    assert not api.blobs


def empty(_folder: Path) -> None:
    """Leave it as it is."""


def pickled(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"")


def configless(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def of_onnx(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.onnx").write_bytes(b"")


def of_another_architecture(folder: Path) -> None:
    hf_models.write(folder, "llama")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["MambaForCausalLM"], "model_type": "mamba"}
    (folder / "config.json").write_text(json.dumps(config))


def of_garbage(folder: Path) -> None:
    hf_models.write(folder, "llama")
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)


def of_ggufs(folder: Path) -> None:
    (folder / "a.gguf").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (empty, "with nothing in it"),
        (pickled, "pickled weights"),
        (configless, "no config.json"),
        (of_onnx, "an ONNX graph"),
        (of_ggufs, "GGUF files: give one of them"),
        (of_another_architecture, "Mamba"),
        (of_garbage, "model.safetensors"),
    ],
)
def test_a_folder_that_cannot_be_converted_is_refused_with_what_was_found(
    sprat: Sprat,
    api: OperatorApi,
    files: Files,
    tmp_path: Path,
    *,
    make: Callable[[Path], object],
    why: str,
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make(source)
    said = push(sprat, files, source)
    assert said.status == 6, said
    assert why in last_line(said)
    assert not api.blobs


def test_a_text_that_is_too_short_is_told(
    sprat: Sprat, files: Files, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "short.txt").write_text("Far too short.")
    said = push(sprat, files, folder, "--calibration", str(tmp_path / "short.txt"), *QUICK)
    assert said.status == 1
    assert "tokens" in last_line(said)


@pytest.mark.parametrize("check", ["versions", "counter"])
def test_who_was_overtaken_by_another_publication_goes_on_from_it(
    sprat: Sprat, api: OperatorApi, files: Files, gguf_file: Path, check: str
) -> None:
    api.refusing += [check, check]
    options = ("--variants", "f16", "--no-evaluation", "-o", "json")
    said = push(sprat, files, gguf_file, *options)
    assert said.status == 0, said
    assert not api.refusing
    assert said.errors.count("uploading f16") == 1
    api.refusing += ["owner"]
    said = push(sprat, files, gguf_file, *options, "--release", "1.1.0")
    assert said.status == 6
    assert "check owner" in last_line(said)


def cut(api: OperatorApi, *, where: str, times: int, is_answer_lost: bool) -> list[str]:
    """Cut the connection so many times where an address has this; return what was cut."""
    cuts: list[str] = []

    def whole(request: httpx.Request) -> httpx.Response:
        api.answer = None
        try:
            return api.handle(request)
        finally:
            api.answer = handle

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "GET" or where not in request.url.path or len(cuts) == times:
            return whole(request)
        cuts.append(request.url.path)
        if is_answer_lost:
            whole(request)
        raise httpx.ReadError("cut", request=request)

    api.answer = handle
    return cuts


@pytest.mark.parametrize(
    ("where", "is_answer_lost"), [("/blobs/", False), ("/releases", False), ("/releases", True)]
)
def test_a_network_that_comes_and_goes_costs_time_only(
    sprat: Sprat,
    api: OperatorApi,
    files: Files,
    gguf_file: Path,
    where: str,
    *,
    is_answer_lost: bool,
) -> None:
    cuts = cut(api, where=where, times=2, is_answer_lost=is_answer_lost)
    options = ("--variants", "f16", "--no-evaluation", "-o", "json")
    said = push(sprat, files, gguf_file, *options)
    assert said.status == 0, said
    assert said.errors.count("; trying again") == len(cuts) > 0
    assert sprat.now > NOW
    assert [one["release"] for one in api.models["tiny"]] == ["1.0.0"]
    assert api.models["tiny"][0]["variants"][0]["digest"] == said.json["variants"][0]["digest"]


def test_a_controller_that_stays_away_is_told_in_the_end(
    sprat: Sprat, api: OperatorApi, files: Files, gguf_file: Path
) -> None:
    cut(api, where="/blobs/", times=100, is_answer_lost=False)
    said = push(sprat, files, gguf_file, "--variants", "f16", "--no-evaluation")
    assert said.status == 1
    assert "cannot be reached" in last_line(said)
    assert (sprat.now - NOW).total_seconds() == 155


def test_without_a_yaml_reader_it_is_told_what_to_install(
    sprat: Sprat, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "sprat_controller.publisher.strict_yaml", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    said = sprat("models", "push", "--pipeline", str(pipeline))
    said.assert_one_sentence(1)
    assert "pip install sprat-controller[publish]" in said.errors


def test_a_full_disk_is_one_sentence(
    sprat: Sprat, files: Files, gguf_file: Path, folder: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        options = ("--scratch", str(disk), "--variants", "q8_0,q4_0", *QUICK)
        said = push(sprat, files, gguf_file, *options)
        assert said.status == 1
        assert "MiB free in" in last_line(said)
        assert "--scratch" in last_line(said)
        # What cannot be foreseen: there is room for the variants, and none for the logits.
        said = push(sprat, files, folder, *options, "--evaluation-tokens", "1020")
        assert said.status == 1, said
        assert last_line(said)
        assert not list(disk.iterdir())
    assert not sprat.api.blobs


def test_a_proof_that_fails_here_is_not_signed(
    sprat: Sprat, api: OperatorApi, files: Files, tmp_path: Path
) -> None:
    source = demo_model.make(tmp_path / "fish.gguf", "I am a small fish.")
    asked = ("--variants", "q8_0,q4_0", "--no-evaluation", "--golden", "Who?=>a bird")
    refused = push(sprat, files, source, *asked)
    assert refused.status == 6
    assert last_line(refused).startswith(
        "sprat: check probe: q8_0 does not pass the proof that would be signed: its answer to the"
        " golden prompt 'Who?' is to contain 'a bird', and was 'I am a small fish.'; mend"
    )
    assert not api.blobs
    assert "tiny" not in api.models
    assert push(sprat, files, source, *asked, "--dry-run").status == 6

    empty = push(sprat, files, source, *asked, "--unproven", " ")
    assert empty.status == 64
    unproven = push(sprat, files, source, *asked, "--unproven", "birds are for later")
    assert unproven.status == 0, unproven
    assert api.bodies[-1]["unproven"] == "birds are for later"


def test_a_proof_that_holds_here_is_signed_and_nothing_is_said_of_it(
    sprat: Sprat, api: OperatorApi, files: Files, tmp_path: Path
) -> None:
    source = demo_model.make(tmp_path / "fish.gguf", "I am a small fish.")
    asked = ("--variants", "q8_0,q4_0", "--no-evaluation", "--golden", "Who?=>small fish")
    said = push(sprat, files, source, *asked)
    assert said.status == 0, said
    assert [line for line in said.errors.splitlines() if line.startswith("proving")] == [
        "proving q8_0",
        "proving q4_0",
    ]
    assert "unproven" not in api.bodies[-1]
