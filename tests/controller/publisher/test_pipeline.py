from __future__ import annotations

from pathlib import Path

from msgspec import structs
from sprat_controller.publisher.pipeline import (
    Judging,
    Outputs,
    Pipeline,
    Policy,
    located,
    overridden,
)
from sprat_controller.publisher.strict_yaml import decode

ROOT = Path(__file__).resolve().parents[3]
PARTS = {"": Pipeline, "evaluation.": Judging, "policy.": Policy, "outputs.": Outputs}


def test_what_is_said_anew_counts_and_the_rest_stays() -> None:
    base = Pipeline(
        source="a",
        model="m",
        variants=("f16",),
        evaluation=Judging(tokens=300, drop_worse=True),
        policy=Policy(aim="smallest"),
    )
    over = Pipeline(
        model="n", variants=("q4_0",), soak_s=0, evaluation=Judging(drop_worse=False, tokens=None)
    )
    assert overridden(base, over) == Pipeline(
        source="a",
        model="n",
        variants=("q4_0",),
        soak_s=0,
        evaluation=Judging(tokens=300, drop_worse=False),
        policy=Policy(aim="smallest"),
    )
    assert overridden(base, Pipeline()) == base
    assert overridden(Pipeline(), base) == base


def test_paths_are_meant_from_the_pipelines_own_folder() -> None:
    said = Pipeline(
        source="model",
        key="pkcs11:token=me",
        chat_template="/etc/chat.jinja",
        adapters={"polite": "a/polite.gguf"},
        evaluation=Judging(calibration="../text.txt"),
        outputs=Outputs(report=("r.json",), picture="p.svg", folder="out"),
    )
    assert located(said, Path("/ci")) == Pipeline(
        source="/ci/model",
        key="pkcs11:token=me",
        chat_template="/etc/chat.jinja",
        adapters={"polite": "/ci/a/polite.gguf"},
        evaluation=Judging(calibration="/ci/../text.txt"),
        outputs=Outputs(report=("/ci/r.json",), picture="/ci/p.svg", folder="/ci/out"),
    )
    assert located(Pipeline(), Path("/ci")) == Pipeline()
    assert located(Pipeline(key="~/me.pem"), Path("/ci")).key == str(Path("~/me.pem").expanduser())


def test_the_example_is_a_pipeline_and_says_every_key() -> None:
    data = (ROOT / "deploy" / "examples" / "pipeline.yaml").read_bytes()
    said = decode(data, Pipeline, "pipeline.yaml")
    assert said.source
    text = data.decode()
    for part in PARTS.values():
        for field in structs.fields(part):
            assert f"{field.encode_name}:" in text, f"{field.encode_name} is not in the example"


def test_the_page_about_publishing_has_every_key() -> None:
    page = (ROOT / "docs" / "publish.md").read_text()
    for prefix, part in PARTS.items():
        for name in part.__struct_fields__:
            assert f"`{prefix}{name}`" in page or f"{prefix}{name}." in PARTS, name
