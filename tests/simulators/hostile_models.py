"""Reads thousands of mutants of model files, in a process of its own with limits.

Each is read correctly or refused in a sentence. Anything else is noted as a failure: another
exception, more work or memory than allowed, or a value that does not agree with the file.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import re
import resource
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
from sprat_controller.publisher.formats import onnx
from sprat_controller.publisher.formats import safetensors as safetensors_reader
from sprat_controller.publisher.formats.model_folder import FolderFacts, facts_of_folder
from sprat_proto import gguf
from sprat_proto.gguf_header import ModelFileError
from sprat_proto.manifest import Facts

from simulators import headers
from simulators.json_mutants import changed_json, changed_message
from simulators.model_files import (
    CONFIG,
    SHAPES,
    onnx_model,
    safetensors,
    with_header,
    write_onnx_folder,
    write_safetensors_folder,
)
from simulators.mutants import LONG_NUMBERS, changed_bytes, mutants
from simulators.onnx_models import small_model

MEMORY_BYTES: Final = 64 << 20  # beyond what the process has before the first mutant
# Calls of functions for one mutant: work is to grow with the file and no faster; a good one of some
# kilobytes takes 4,000.
MAX_CALLS: Final = 50_000
CALLS_A_BYTE: Final = 5
CPU_S: Final = 600  # for all: the second wall, if work is done without calling anything
LONGEST_MESSAGE: Final = 800


class TooMuchWorkError(Exception):
    """A reader called more functions than one file is worth."""


@dataclass
class Outcome:
    """What became of the mutants."""

    accepted: int = 0
    refused: int = 0
    most_calls: int = 0
    failures: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Family:
    """Files of one kind: how mutants are made, where they are put, and how they are judged."""

    file: str
    write: Callable[[Path], object]  # what is beside the mutant
    mutants: Callable[[random.Random], Iterator[bytes]]
    check: Callable[[Path], None]  # reads; an accepted file must be consistent


def judge(family: str, count: int, seed: int) -> Outcome:
    """Judge mutants in a process of its own, with a limit of memory."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool:
        return pool.submit(_judge_here, family, count, seed).result()


def _judge_here(name: str, count: int, seed: int) -> Outcome:
    family, outcome = FAMILIES[name], Outcome()
    folder = Path(tempfile.mkdtemp())
    try:
        family.write(folder)
        path = folder / family.file
        found = family.mutants(random.Random(seed))  # noqa: S311 - the same in each run
        next(found)
        _limit()
        for number, mutant in enumerate(islice(found, count)):
            path.write_bytes(mutant)
            _judge_one(family, path, outcome, f"{name} {number} of seed {seed}")
    finally:
        shutil.rmtree(folder)
    return outcome


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    bound = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


def _judge_one(family: Family, path: Path, outcome: Outcome, label: str) -> None:
    calls = _Calls(MAX_CALLS + CALLS_A_BYTE * path.stat().st_size)
    try:
        with calls:
            family.check(path)
    except ModelFileError as error:
        outcome.refused += 1
        message = str(error)
        if not message.isprintable() or len(message) > LONGEST_MESSAGE or "expected" not in message:
            outcome.failures.append(f"{label}: a message that is no sentence: {message[:2000]!r}")
    except (Exception, MemoryError) as error:  # noqa: BLE001 - whatever it is, it is a failure
        outcome.failures.append(f"{label}: {type(error).__name__}: {str(error)[:1000]}")
    else:
        outcome.accepted += 1
    outcome.most_calls = max(outcome.most_calls, calls.made)


class _Calls:
    """Counts calls of functions, which are the same on any machine, and ends what has too many."""

    def __init__(self, most: int) -> None:
        self.made = 0
        self._most = most

    def __enter__(self) -> None:
        sys.setprofile(self._note)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, _frame: FrameType, event: str, _argument: object) -> None:
        self.made += event in ("call", "c_call")
        if self.made > self._most:
            raise TooMuchWorkError(f"more than {self._most} calls")


# How mutants of each format are made.


def _gguf_mutants(randomly: random.Random) -> Iterator[bytes]:
    template = "{% if tools %}{{ tools }}{% endif %}"
    more = {
        "window": headers.pair("llama.attention.sliding_window", headers.U32, 16),
        "experts": headers.pair("llama.expert_count", headers.U32, 4),
        "used": headers.pair("llama.expert_used_count", headers.U32, 2),
        "licence": headers.pair("general.license", headers.STRING, "mit"),
        "template": headers.pair("tokenizer.chat_template", headers.STRING, template),
    }
    good = headers.build(more)
    both = [mutants(good, randomly.randrange(1 << 30)), mutants(headers.build(), 1)]
    yield good
    while True:
        yield next(randomly.choice(both))


def _safetensors_mutants(randomly: random.Random) -> Iterator[bytes]:
    good = safetensors(SHAPES)
    length = int.from_bytes(good[:8], "little")
    header, data = good[8 : 8 + length].rstrip(b" "), len(good) - 8 - length
    yield good
    while True:
        match randomly.randrange(6):
            case 0:
                yield changed_bytes(good, randomly, keep=data)
            case 1:
                wrong = randomly.choice(
                    (*LONG_NUMBERS, length - 1, length + 1, 32 << 20, 100 << 20)
                )
                yield struct.pack("<Q", wrong) + good[8:]
            case 2:
                yield with_header(header, max(0, data + randomly.choice((-2, -1, 1, 1000))))
            case _:
                yield with_header(changed_json(header, randomly), data)


def _onnx_mutants(randomly: random.Random) -> Iterator[bytes]:
    good = small_model()
    yield good
    while True:
        yield changed_message(good, randomly)


def _json_mutants(
    file: str, write: Callable[[Path], object]
) -> Callable[[random.Random], Iterator[bytes]]:
    def made(randomly: random.Random) -> Iterator[bytes]:
        folder = Path(tempfile.mkdtemp())
        try:
            write(folder)
            good = (folder / file).read_bytes()
        finally:
            shutil.rmtree(folder)
        yield good
        while True:
            yield changed_json(good, randomly)

    return made


def _card_mutants(randomly: random.Random) -> Iterator[bytes]:
    good = b"---\nlicense:\n- apache-2.0\nlicense_name: own\ntags:\n- x\n---\n# Model\n"
    yield good
    while True:
        yield changed_bytes(good, randomly, keep=0)


def _graph_mutants(randomly: random.Random) -> Iterator[bytes]:
    good = onnx_model()
    yield good
    while True:
        yield changed_message(good, randomly)


# What must be true of an accepted file.


def _check_gguf(path: Path) -> None:
    facts = gguf.facts(path, "q4_0")
    assert msgspec.convert(msgspec.to_builtins(facts), Facts) == facts  # all in their ranges
    assert facts.weights_bytes == sum(facts.tensor_bytes.values()) <= path.stat().st_size
    assert set(facts.bytes_per_token) == set(facts.tensor_bytes)
    assert all(
        0 <= facts.bytes_per_token[kind] <= size for kind, size in facts.tensor_bytes.items()
    )
    assert 0 <= facts.window_layers <= facts.layers
    assert 0 < facts.parameters <= 8 * facts.weights_bytes
    assert facts.heads % facts.kv_heads == 0


def _check_safetensors(path: Path) -> None:
    file = safetensors_reader.read(path)
    data = path.read_bytes()
    header = json.loads(data[8 : file.data_offset])
    assert header.pop("__metadata__", {}) == file.metadata
    assert {
        one.name: [one.dtype, list(one.shape), [one.begin, one.end]] for one in file.tensors
    } == {name: [one["dtype"], one["shape"], one["data_offsets"]] for name, one in header.items()}
    end = 0
    for one in file.tensors:
        bits = safetensors_reader.DTYPE_BITS[one.dtype]
        assert one.begin == end
        assert (one.end - one.begin) * 8 == math.prod(one.shape) * bits
        end = one.end
    assert file.data_offset + end == len(data)


def _check_onnx(path: Path) -> None:
    file = onnx.read(path)
    size = path.stat().st_size
    assert sum(file.op_types.values()) <= size
    assert len(file.tensors) + file.subgraphs <= size
    # Texts and raw data take their bytes; a number takes one or more and counts for up to 8.
    assert sum(one.size for one in file.tensors if not one.location) <= 8 * size
    for one in file.tensors:
        assert all(dim >= 0 for dim in one.dims)
        if one.location:
            assert re.fullmatch(r"[^/\\]+", one.location)
            assert file.external[one.location] == (path.parent / one.location).stat().st_size
            assert 0 <= one.offset <= file.external[one.location] - one.size
    assert file.parameters >= 0
    assert file.weights_bytes == sum(file.bytes_by_type.values())


def _check_folder(path: Path) -> None:
    folder = path.parent
    facts = facts_of_folder(folder)
    _check_facts(facts, folder)
    if path.name == "config.json":
        config: dict[str, Any] = json.loads(path.read_bytes(), parse_int=_whole)
        text = config.get("text_config") or config
        assert facts.layers == (text.get("num_hidden_layers") or 0)
        assert facts.vocabulary == (text.get("vocab_size") or 0)
        assert facts.context_length == (text.get("max_position_embeddings") or 0)
        assert facts.embedding_length == (text.get("hidden_size") or 0)
        assert facts.heads == (text.get("num_attention_heads") or 0)


def _whole(digits: str) -> int | str:
    """Return a number that a field may have; one with more digits than Python reads, as text."""
    return int(digits) if len(digits) < 4000 else digits


def _check_facts(facts: FolderFacts, folder: Path) -> None:
    assert facts.licence.isprintable()
    assert len(facts.licence) <= 128
    sizes = [(folder / name).stat().st_size for name in facts.files]
    assert 0 <= facts.weights_bytes <= 8 * sum(sizes)
    for number in (facts.parameters, facts.layers, facts.heads, facts.kv_heads, facts.head_size):
        assert type(number) is int
        assert 0 <= number <= 1 << 50
    assert type(facts.has_tools) is bool


def _write_index(folder: Path) -> None:
    write_safetensors_folder(folder)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    said = {
        "metadata": {"total_size": 1},
        "weight_map": dict.fromkeys(SHAPES, "model-1.safetensors"),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(said))


def _write_multimodal(folder: Path) -> None:
    write_safetensors_folder(folder, {"text_config": CONFIG, "quantization": {"bits": 4}})


def _write_data(folder: Path) -> None:
    (folder / "model.onnx.data").write_bytes(bytes(40))


def _of_json(file: str, write: Callable[[Path], object]) -> Family:
    return Family(file, write, _json_mutants(file, write), _check_folder)


FAMILIES: Final[dict[str, Family]] = {
    "gguf": Family("model.gguf", lambda _: None, _gguf_mutants, _check_gguf),
    "safetensors": Family(
        "model.safetensors", lambda _: None, _safetensors_mutants, _check_safetensors
    ),
    "onnx": Family("model.onnx", _write_data, _onnx_mutants, _check_onnx),
    "config": _of_json("config.json", write_safetensors_folder),
    "multimodal": _of_json("config.json", _write_multimodal),
    "genai": _of_json("genai_config.json", write_onnx_folder),
    "tokenizer": _of_json("tokenizer_config.json", write_safetensors_folder),
    "index": _of_json("model.safetensors.index.json", _write_index),
    "weights": Family(
        "model.safetensors", write_safetensors_folder, _safetensors_mutants, _check_folder
    ),
    "graph": Family("model.onnx", write_onnx_folder, _graph_mutants, _check_folder),
    "card": Family("README.md", write_safetensors_folder, _card_mutants, _check_folder),
}
