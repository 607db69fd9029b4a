from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from simulators.model_files import (
    CONFIG,
    GENAI,
    SHAPES,
    TOKENIZER,
    entry,
    onnx_model,
    safetensors,
    with_header,
    write_onnx_folder,
    write_safetensors_folder,
)
from sprat_controller.publisher.formats import model_config, model_folder, safetensors_shards
from sprat_controller.publisher.formats.model_folder import (
    FolderFacts,
    ModelFileError,
    facts_of_folder,
)

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "talk"
    home.mkdir()
    return home


def refused(folder: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        facts_of_folder(folder)
    message = str(caught.value)
    assert message.startswith("folder talk: ")
    assert "expected" in message
    assert message.isprintable()
    assert len(message) < 600
    return message


def test_a_folder_of_safetensors_says_what_the_model_is(folder: Path) -> None:
    facts = facts_of_folder(write_safetensors_folder(folder))
    parameters = 30 * 16 + 2 * 32 * 16 + 16
    assert facts == FolderFacts(
        format="safetensors",
        architecture="qwen3",
        parameters=parameters,
        bytes_by_type={"bf16": 2 * parameters},
        layers=2,
        embedding_length=16,
        heads=4,
        kv_heads=2,
        head_size=8,
        vocabulary=30,
        context_length=4096,
        window=0,
        licence="apache-2.0",
        has_tools=True,
        files=("model.safetensors",),
    )
    assert facts.weights_bytes == 2 * parameters


def test_a_folder_of_onnx_says_what_the_model_is(folder: Path) -> None:
    facts = facts_of_folder(write_onnx_folder(folder))
    assert facts == FolderFacts(
        format="onnx",
        architecture="qwen3",
        parameters=30 * 16 + 16 * 32,  # the second packed, two a byte; its scales are none
        bytes_by_type={"float": 128, "float16": 2 * 30 * 16, "uint8": 256},
        layers=2,
        embedding_length=16,
        heads=4,
        kv_heads=2,
        head_size=8,
        vocabulary=30,
        context_length=4096,
        window=0,
        licence="apache-2.0",
        has_tools=True,
        files=("model.onnx", "model.onnx.data"),
    )


def test_an_onnx_model_may_be_told_of_by_the_config_of_transformers(folder: Path) -> None:
    write_onnx_folder(folder)
    (folder / "genai_config.json").unlink()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    facts = facts_of_folder(folder)
    assert (facts.format, facts.layers, facts.head_size) == ("onnx", 2, 8)
    (folder / "model.onnx").rename(folder / "decoder.onnx")
    assert facts_of_folder(folder).files == ("decoder.onnx", "model.onnx.data")
    (folder / "encoder.onnx").write_bytes(onnx_model())
    assert "expected model.onnx, found 2 others" in refused(folder)


def write_shards(folder: Path, index: dict[str, str] | None = None) -> None:
    """Write two files, each with half of the tensors."""
    names = list(SHAPES)
    whole = {name: f"part-{n % 2}.safetensors" for n, name in enumerate(names)}
    for file in set(whole.values()):
        mine = {name: SHAPES[name] for name in names if whole[name] == file}
        (folder / file).write_bytes(safetensors(mine))
    said = {"metadata": {"total_size": 1}, "weight_map": whole if index is None else index}
    (folder / INDEX).write_text(json.dumps(said))
    (folder / "config.json").write_text(json.dumps(CONFIG))


def test_a_model_may_be_in_several_files(folder: Path, tmp_path: Path) -> None:
    write_shards(folder)
    facts = facts_of_folder(folder)
    assert facts.files == ("part-0.safetensors", "part-1.safetensors")
    other = tmp_path / "other"
    other.mkdir()
    assert facts.bytes_by_type == facts_of_folder(write_safetensors_folder(other)).bytes_by_type
    assert (facts.licence, facts.has_tools) == ("", False)


FIRST = next(iter(SHAPES))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({FIRST: "part-1.safetensors"}, "found it in part-0.safetensors"),
        ({FIRST: "../part-0.safetensors"}, "no '../part-0.safetensors'"),
        ({FIRST: "/etc/passwd"}, "no '/etc/passwd'"),
        ({FIRST: "\x1b[2J"}, "no '\\x1b[2J'"),
        ({"another": "part-0.safetensors"}, "expected 5 tensors"),
    ],
)
def test_an_index_must_say_where_the_tensors_are(
    folder: Path, changed: dict[str, str], says: str
) -> None:
    names = {name: f"part-{n % 2}.safetensors" for n, name in enumerate(SHAPES)}
    write_shards(folder, names | changed)
    assert says in refused(folder)


def test_an_index_must_name_every_tensor(folder: Path) -> None:
    write_shards(folder)
    (folder / "part-1.safetensors").write_bytes(safetensors({"unknown": (2,)}))
    assert "expected 'unknown' in 'no file'" in refused(folder)
    write_shards(folder, {"unknown": "part-1.safetensors"})
    (folder / "part-1.safetensors").write_bytes(with_header(b"{}"))
    assert "expected 1 tensors" in refused(folder)
    (folder / INDEX).write_text('{"weight_map": {}}')
    assert "file model.safetensors.index.json: expected JSON with its usual fields" in refused(
        folder
    )


def test_the_files_have_a_limit_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(folder)
    monkeypatch.setattr(safetensors_shards, "MAX_TENSORS", 3)
    assert "expected up to 3 tensors" in refused(folder)
    monkeypatch.setattr(safetensors_shards, "MAX_FILES", 1)
    assert "expected up to 1 files" in refused(folder)


def test_the_folder_has_a_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_safetensors_folder(folder)
    monkeypatch.setattr(model_folder, "MAX_ENTRIES", 3)
    assert "expected at most 3 files" in refused(folder)


def test_several_files_without_an_index_are_refused(folder: Path) -> None:
    write_shards(folder)
    (folder / INDEX).unlink()
    assert "expected model.safetensors or model.safetensors.index.json" in refused(folder)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"head_dim": None}, {"head_size": 4}),
        ({"num_key_value_heads": None}, {"kv_heads": 4}),
        ({"num_attention_heads": None, "head_dim": None}, {"heads": 0, "head_size": 0}),
        ({"sliding_window": 512}, {"window": 512}),
        ({"sliding_window": 512, "use_sliding_window": False}, {"window": 0}),
        ({"vocab_size": None}, {"vocabulary": 0}),
        ({"model_type": "gemma3", "text_config": CONFIG | {"model_type": "x"}}, {"layers": 2}),
        (
            {"num_hidden_layers": None, "model_type": "gemma3", "text_config": CONFIG},
            {"architecture": "gemma3", "layers": 2, "heads": 4},
        ),
    ],
)
def test_what_a_config_leaves_out_follows_from_the_rest(
    folder: Path, config: dict[str, Any], expected: dict[str, Any]
) -> None:
    facts = facts_of_folder(write_safetensors_folder(folder, config))
    assert {name: getattr(facts, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"num_hidden_layers": 3}, "expected 3 layers (config.json), found no layer 2"),
        ({"vocab_size": 31}, "of (31, 16) (config.json), found (30, 16)"),
        ({"hidden_size": 32}, "of (30, 32) (config.json), found (30, 16)"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"num_hidden_layers": 1 << 80}, "num_hidden_layers"),
        ({"vocab_size": [30]}, "vocab_size"),
        ({"model_type": "x" * 129}, "model_type"),
        ({"rope_theta": float("nan")}, "malformed"),
        ({"rope_theta": float("inf")}, "malformed"),
        ({"text_config": {"text_config": {"text_config": 1}}}, "text_config"),
    ],
)
def test_a_config_that_contradicts_or_makes_no_sense_is_refused(
    folder: Path, config: dict[str, Any], says: str
) -> None:
    assert says in refused(write_safetensors_folder(folder, config))


def write_packed(folder: Path, tensors: dict[str, tuple[str, int, list[int]]]) -> None:
    """Write tensors of a type and so many bytes an element."""
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, size, shape) in tensors.items():
        begin, end = end, end + size * math.prod(shape)
        header[f"model.layers.0.{name}"] = entry(dtype, shape, begin, end)
    (folder / "model.safetensors").write_bytes(with_header(json.dumps(header).encode(), end))


@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
def test_weights_that_are_packed_are_counted_one_by_one(folder: Path, key: str) -> None:
    write_safetensors_folder(folder, {key: {"bits": 4, "group_size": 16}, "num_hidden_layers": 1})
    packed = {
        "q.weight": ("U32", 4, [8, 2]),  # of 16 weights in a row
        "q.scales": ("BF16", 2, [8, 1]),
        "q.biases": ("BF16", 2, [8, 1]),
        "norm.weight": ("BF16", 2, [16]),
    }
    write_packed(folder, packed)
    facts = facts_of_folder(folder)
    assert facts.parameters == 8 * 16 + 16
    assert facts.bytes_by_type == {"bf16": 2 * (8 + 8 + 16), "u32": 4 * 16}


def test_positions_and_masks_are_no_weights(folder: Path) -> None:
    write_safetensors_folder(folder, {"num_hidden_layers": 1})
    tensors = {"positions": ("I64", 8, [512]), "mask": ("BOOL", 1, [9]), "w": ("I8", 1, [6])}
    write_packed(folder, tensors)
    facts = facts_of_folder(folder)
    assert facts.parameters == 6
    assert facts.weights_bytes == 8 * 512 + 9 + 6


def test_ternary_weights_are_four_a_byte(folder: Path) -> None:
    method = {"quantization_config": {"quant_method": "bitnet"}, "num_hidden_layers": 1}
    write_safetensors_folder(folder, method)
    packed = {"q.weight": ("U8", 1, [8, 64]), "q.weight_scale": ("F32", 4, [1])}
    write_packed(folder, packed | {"norm.weight": ("BF16", 2, [64])})
    assert facts_of_folder(folder).parameters == 32 * 64 + 64


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"num_hidden_layers": 3}, "expected 3 layers, found a cache of 2"),
        ({"num_key_value_heads": 4}, "expected heads and their size of (4, 8), found (2, 8)"),
        ({"head_size": 16}, "expected heads and their size of (2, 16), found (2, 8)"),
        ({"filename": "other.onnx"}, "expected a file 'other.onnx', found none"),
        ({"filename": "../model.onnx"}, "expected a file '../model.onnx', found none"),
        ({"filename": ""}, "expected a file '', found none"),
        ({"filename": 1}, "filename"),
    ],
)
def test_what_genai_is_told_must_agree_with_the_graph(
    folder: Path, changed: dict[str, Any], says: str
) -> None:
    write_onnx_folder(folder)
    model = GENAI["model"]
    config = {"model": model | {"decoder": model["decoder"] | changed}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    assert says in refused(folder)


def test_a_cache_whose_sizes_are_not_known_is_no_contradiction(folder: Path) -> None:
    write_onnx_folder(folder)
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"\x0a\x02\x08\x08", b"\x0a\x02\x12\x00"))
    assert facts_of_folder(folder).head_size == 8


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\nlicense:   'mit'   # said\n---\n", "mit"),
        ('---\r\nlanguage: en\r\nlicense: "mit"\r\n---\r\n', "mit"),
        ("---\nlicense:\n- mit\n- apache-2.0\n---\n", "mit"),
        ("---\nlicense: [mit, x]\n---\n", "mit, x"),
        ("---\nlicense: other\nlicense_name: gemma\n---\n", "gemma"),
        ("---\nlicense: mit\nlicense_name: gemma\n---\n", "mit"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags:\n- mit\nlicense:\nlanguage:\n- en\n---\n", ""),
        ("---\nlicense: mit", "mit"),
        ("---\nlicense: m\x1b[2Jit\n---\n", "m [2Jit"),
        (f"---\nlicense: {'x' * 1000}\n---\n", "x" * 128),
        ("---\nmore:\n  license: mit\n---\n", ""),
        ("---\n---\nlicense: mit\n", ""),
        ("license: mit\n", ""),
        ("", ""),
    ],
)
def test_the_licence_is_that_of_the_cards_front_matter(
    folder: Path, card: str, licence: str
) -> None:
    write_safetensors_folder(folder)
    (folder / "README.md").write_bytes(card.encode())
    assert facts_of_folder(folder).licence == licence


TOOLS, NO_TOOLS = TOKENIZER["chat_template"], "{{ messages }} no tools"


@pytest.mark.parametrize(
    ("files", "has_tools"),
    [
        ({}, False),
        ({"tokenizer_config.json": {"chat_template": TOOLS}}, True),
        ({"tokenizer_config.json": {"chat_template": NO_TOOLS}}, False),
        ({"tokenizer_config.json": {"chat_template": None, "model_max_length": 1e30}}, False),
        (
            {"tokenizer_config.json": {"chat_template": [{"name": "tool_use", "template": TOOLS}]}},
            True,
        ),
        (
            {"tokenizer_config.json": {"chat_template": TOOLS}, "chat_template.jinja": NO_TOOLS},
            False,
        ),
        ({"chat_template.jinja": TOOLS}, True),
        ({"chat_template.json": {"chat_template": TOOLS}}, True),
    ],
)
def test_tools_are_those_of_the_template_that_counts(
    folder: Path,
    files: dict[str, Any],
    *,
    has_tools: bool,
) -> None:
    write_safetensors_folder(folder)
    (folder / "tokenizer_config.json").unlink()
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    assert facts_of_folder(folder).has_tools is has_tools


def test_a_folder_that_has_no_model_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "expected a model in safetensors or ONNX" in refused(folder)
    with pytest.raises(ModelFileError, match="folder missing: expected a readable folder"):
        facts_of_folder(tmp_path / "missing")
    write_safetensors_folder(folder)
    (folder / "config.json").unlink()
    assert "file config.json: expected a readable file, found: No such file" in refused(folder)
    os.mkfifo(folder / "config.json")
    assert "file config.json: expected a regular file" in refused(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "chat_template.jinja", "README.md"]
)
def test_a_folder_in_place_of_a_file_is_refused(folder: Path, name: str) -> None:
    write_safetensors_folder(folder)
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    assert f"file {name}: expected a readable file" in refused(folder)


def test_files_have_limits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_safetensors_folder(folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    assert "file chat_template.jinja: expected UTF-8" in refused(folder)
    monkeypatch.setattr(model_config, "MAX_TEMPLATE_BYTES", 10)
    (folder / "chat_template.jinja").write_text("x" * 11)
    assert "file chat_template.jinja: expected at most 10 bytes" in refused(folder)
    monkeypatch.setattr(model_folder, "MAX_CONFIG_BYTES", 10)
    assert "file config.json: expected at most 10 bytes" in refused(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"x":' * 100_000, "\xff"])
def test_a_config_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    write_safetensors_folder(folder)
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert "file config.json: expected JSON with its usual fields" in refused(folder)
