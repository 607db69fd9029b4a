"""Whatever a folder holds: one sentence, or a file that may be loaded; never more than that."""

from __future__ import annotations

import json
import math
import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulators import hf_models
from sprat_controller.publisher.convert.convert import ConvertError, convert
from sprat_proto import gguf

_FAST = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_KINDS = ("llama3", "gemma3", "phi3-json")
_EXAMPLES = (12, pytest.param(150, marks=pytest.mark.full))

_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "added_tokens.json",
    "README.md",
    "chat_template.jinja",
    "chat_template.json",
    "model.safetensors",
    "model.safetensors.index.json",
)

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(2**70), 2**70),
    st.sampled_from([1e30, 1e31, 1e-320, -0.0, 2**31, 2**32, 2**63, 2**64]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "\x00", "\ud800", "x" * 70_000, "<0x00>", "a b", "▁", "[PAD3]"]),
)
_junk = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    return {kind: hf_models.write(root / kind, kind) for kind in _KINDS}


def attempt(folder: Path, target: Path) -> str | None:
    """Convert; return the refusal, or None and a sound file."""
    target.unlink(missing_ok=True)
    try:
        convert(folder, target, report=unheard)
    except ConvertError as error:
        said = str(error)
        assert not target.exists()
        assert said
        assert "\n" not in said
        assert len(said) < 1000
        return said
    finally:
        assert list(target.parent.glob(".*.partial")) == []
    gguf.check(target)
    return None


def unheard(_name: str, _done: int, _total: int) -> None:
    """Nobody watches."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Walk through a JSON value; of long lists and objects only the ends."""
    yield path
    if not isinstance(value, dict | list):
        return
    inside = cast("Any", value)
    keys: list[Any] = list(inside if isinstance(value, dict) else range(len(inside)))
    for key in [*keys[:40], *keys[-3:]]:
        yield from places(inside[key], (*path, key))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return copy


def swapped(folder: Path, name: str, content: bytes, scratch: Path) -> Path:
    """Return a folder with the same files but one."""
    copy = scratch / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / name).unlink(missing_ok=True)
    (copy / name).write_bytes(content)
    return copy


@pytest.mark.parametrize("examples", _EXAMPLES)
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_one_changed_value_is_refused_or_harmless(
    folders: dict[str, Path], tmp_path: Path, kind: str, name: str, examples: int
) -> None:
    original = json.loads((folders[kind] / name).read_text(encoding="utf-8"))
    where = st.sampled_from([path for path in places(original) if path])

    @settings(_FAST, max_examples=examples)
    @given(where, _junk | st.just("delete me"))
    def one(path: tuple[Any, ...], junk: Any) -> None:
        def change(inner: Any, key: Any) -> None:
            if junk == "delete me":
                del inner[key]
            else:
                inner[key] = junk

        text = json.dumps(changed(original, path, change)).encode()
        attempt(swapped(folders[kind], name, text, tmp_path), tmp_path / "out.gguf")

    one()


@_FAST
@given(at=st.integers(0, 1 << 20), byte=st.integers(0, 255), length=st.integers(0, 1 << 20))
def test_a_damaged_sentencepiece_model_is_refused_or_harmless(
    folders: dict[str, Path], tmp_path: Path, at: int, byte: int, length: int
) -> None:
    data = bytearray((folders["gemma3"] / "tokenizer.model").read_bytes())
    data[at % len(data)] = byte
    del data[max(length, len(data) // 2) :]
    folder = swapped(folders["gemma3"], "tokenizer.model", bytes(data), tmp_path)
    attempt(folder, tmp_path / "out.gguf")


@_FAST
@given(data=st.binary(max_size=64), name=st.sampled_from(_FILES))
def test_any_bytes_as_any_file(
    folders: dict[str, Path], tmp_path: Path, data: bytes, name: str
) -> None:
    attempt(swapped(folders["gemma3"], name, data, tmp_path), tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[" * 1_000_000),
        ("config.json", b'{"a":' * 100_000),
        ("config.json", b'{"hidden_size": 1' + b"0" * 900_000 + b"}"),
        ("config.json", b" " * ((1 << 20) + 1)),
        ("tokenizer.json", b'{"model":' * 1_000_000),
        ("tokenizer.json", b'{"model": {"type": "BPE", "merges": [' + b"[]," * 100_000),
        ("tokenizer.json", b" " * ((64 << 20) + 1)),
        ("tokenizer.model", b"\x0a" * 1_000_000),
        ("tokenizer.model", b"\x0a\x00" * 1_000_000),
        ("tokenizer.model", b"\xff" * 1_000_000),
        ("model.safetensors.index.json", b"{" * 1_000_000),
    ],
)  # fmt: skip
def test_what_is_huge_or_deep_costs_little(
    folders: dict[str, Path], tmp_path: Path, name: str, content: bytes
) -> None:
    folder = swapped(folders["gemma3"], name, content, tmp_path)
    tracemalloc.start()
    begin = time.monotonic()
    try:
        assert attempt(folder, tmp_path / "out.gguf")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begin < 20
    assert peak < 3 * len(content) + (32 << 20)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**18),
        ("num_hidden_layers", 512),
        ("vocab_size", 10**12),
        ("vocab_size", 1 << 20),
        ("hidden_size", 1 << 40),
        ("max_position_embeddings", -1),
        ("rms_norm_eps", math.inf),
        ("rope_theta", 1e300),
        ("num_attention_heads", 4096),
        ("head_dim", 4096),
    ],
)
def test_numbers_without_measure_are_refused(
    folders: dict[str, Path], tmp_path: Path, key: str, value: float
) -> None:
    config = json.loads((folders["llama3"] / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {key: value}).encode()
    assert attempt(swapped(folders["llama3"], "config.json", text, tmp_path), tmp_path / "out.gguf")
