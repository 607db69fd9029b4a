"""`sprat models push --probes --probe-text`: what comes to be signed, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from shipped import GOOD
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Said, Sprat
from sprat_controller.publisher.evaluate.calibration import default_text
from sprat_proto import manifest
from sprat_proto.manifest import Activation
from sprat_proto.probes import Bounds, Proof, SoakBounds

Files = dict[str, Path]
NAMED = ("--name", "tiny", "--release", "1.0.0", "--variants", "q8_0", "--no-evaluation")
PROBES = """\
schema: 1
golden:
  - {prompt: "Who?", expect: "A fish.", weight: 3}
  - {prompt: "As JSON", expect: '{"type":"object","required":["legs"]}', match: schema}
min_score_percent: 60
timeout_s: 90
text: {file: probe.txt, tokens: 255, margin_percent: 40}
bounds: {min_decode_tps: 7.5, max_memory_percent: 110}
soak: {seconds: 60, traffic_percent: 5, min_requests: 500, max_error_percent: 2}
"""


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    """A probe file and its text beside it."""
    (tmp_path / "probe.txt").write_text(default_text())
    path = tmp_path / "probes.yaml"
    path.write_text(PROBES)
    return path


def push(sprat: Sprat, files: Files, source: Path, *options: str) -> Said:
    said = ("models", "push", str(source), *NAMED, "--key", str(files["key"]), "-o", "json")
    # The model was never asked such things.
    return sprat(*said, *options, "--unproven", "a test")


def signed(api: OperatorApi, said: Said) -> Activation:
    assert said.status == 0, said
    (variant,) = said.json["variants"]
    return manifest.decode(api.blobs[variant["digest"]]).activation


def test_all_of_a_probe_file_is_signed(
    sprat: Sprat, api: OperatorApi, files: Files, probes: Path
) -> None:
    options = ("--probes", str(probes), "--golden", "More?=> No. ", "--soak", "5")
    found = signed(api, push(sprat, files, GOOD, *options))
    assert [(one.prompt, one.match, one.counts) for one in found.probe] == [
        ("Who?", "contains", 3),
        ("As JSON", "schema", 1),
        ("More?", "contains", 1),
    ]
    assert (found.probe_timeout_s, found.soak_s, found.soak_traffic_percent) == (90, 60, 5)
    text = found.terms.text
    assert text is not None
    assert text.text == (probes.parent / "probe.txt").read_text()
    assert (text.tokens, text.max_perplexity_milli > 1000) == (255, True)
    assert found.terms == Proof(600, text, Bounds(7_500, 0, 0, 1100), SoakBounds(500, 20))


def test_a_text_alone_is_held_to_the_originals_perplexity(
    sprat: Sprat, api: OperatorApi, files: Files, probes: Path
) -> None:
    alone = signed(api, push(sprat, files, GOOD, "--probe-text", str(probes.parent / "probe.txt")))
    text = alone.terms.text
    assert text is not None
    assert alone.terms == Proof(text=text)


def test_a_text_takes_the_place_of_the_files(
    sprat: Sprat, api: OperatorApi, files: Files, probes: Path
) -> None:
    other = probes.parent / "other.txt"
    other.write_text(default_text()[:-200])
    options = ("--probes", str(probes), "--probe-text", str(other))
    text = signed(api, push(sprat, files, GOOD, *options)).terms.text
    assert text is not None
    assert (text.text, text.tokens) == (other.read_text(), 255)


def test_a_pipelines_file_names_them_from_where_it_is(
    sprat: Sprat, api: OperatorApi, files: Files, probes: Path
) -> None:
    path = probes.parent / "push.yaml"
    lines = (
        *("schema: 1", f"source: {GOOD}", "model: tiny", "release: 1.0.0"),
        *(f"key: {files['key']}", "variants: [q8_0]", "evaluation: {skip: true}"),
        *("probes: probes.yaml", "probe_text: probe.txt", "unproven: a test"),
    )
    path.write_text("\n".join(lines))
    found = signed(api, sprat("models", "push", "--pipeline", str(path), "-o", "json"))
    assert found.terms.text is not None
    assert found.soak_s == 60


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (("min_score_percent: 60", "min_score_percent: 600"), "min_score_percent"),
        (("timeout_s: 90", "timeout: 90"), "timeout"),
        (('"required":["legs"]', '"pattern":"a+"'), "does not know 'pattern'"),
        (('\'{"type"', "'{type"), "expected a JSON schema"),
        (("margin_percent: 40", "margin_percent: 40, max_perplexity: 7"), "found both"),
        (("probe.txt", "nowhere.txt"), "nowhere.txt cannot be read"),
        (("margin_percent: 40", "max_perplexity: 1.5"), "check probe: the perplexity of its text"),
    ],
)
def test_what_no_device_could_hold_it_to_is_refused_before_it_is_signed(
    sprat: Sprat,
    files: Files,
    probes: Path,
    change: tuple[str, str],
    found: str,
) -> None:
    written, instead = change
    assert written in PROBES
    probes.write_text(PROBES.replace(written, instead))
    said = push(sprat, files, GOOD, "--probes", str(probes))
    assert said.status != 0
    assert said.output == ""
    last = said.errors.splitlines()[-1]
    assert last.startswith("sprat: ")
    assert found in last


def test_more_golden_prompts_than_a_manifest_has_are_refused(
    sprat: Sprat, files: Files, tmp_path: Path
) -> None:
    path = tmp_path / "many.yaml"
    path.write_text("golden:\n" + "- {prompt: a, expect: b}\n" * 64)
    said = push(sprat, files, GOOD, "--probes", str(path), "--golden", "c=>d")
    assert "expected at most 64 golden prompts, found 65" in said.errors.splitlines()[-1]
