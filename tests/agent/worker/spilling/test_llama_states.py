"""llama.cpp's own states: the same logits follow on them, and wrong ones are refused."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from simulators import models
from sprat_agent.runtime.wire import Load
from sprat_agent.worker.batching.batch import Run
from sprat_agent.worker.llama import LlamaBackend

PROMPT = [ord(letter) for letter in "One prompt of some length, and no other one."]
CONTEXT = 128


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model whose heads are wide enough for quantized values."""
    path = tmp_path_factory.mktemp("model") / "wide.gguf"
    return models.write_model(path, models.Shape(width=128))[0]


@contextmanager
def loaded(model: Path, slots: int, kv_type: str = "f16") -> Generator[LlamaBackend]:
    backend = LlamaBackend()
    backend.load(Load(str(model), CONTEXT, 1, "", slots=slots, kv_type=kv_type))
    try:
        yield backend
    finally:
        backend.close()


def saved(backend: LlamaBackend, sequence: int) -> memoryview:
    backend.decode([Run(sequence, 0, PROMPT, 1)])
    return backend.save(sequence, backend.state_size(sequence))


def next_row(backend: LlamaBackend, sequence: int) -> bytes:
    backend.decode([Run(sequence, len(PROMPT), [ord("x")], 1)])
    return np.array(backend.row(0)).tobytes()


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize(
    ("before", "after"), [((3, 1), (3, 0)), ((1, 0), (4, 2)), ((4, 3), (1, 0))]
)
def test_a_state_that_was_put_back_is_what_was_saved(
    model: Path, kv_type: str, before: tuple[int, int], after: tuple[int, int]
) -> None:
    slots, sequence = before
    with loaded(model, slots, kv_type) as backend:
        state, kind = saved(backend, sequence), backend.state_kind
        expected = next_row(backend, sequence)
    slots, sequence = after
    with loaded(model, slots, kv_type) as backend:
        assert backend.state_kind == kind
        assert backend.restore(sequence, state, len(PROMPT))
        assert next_row(backend, sequence) == expected


def test_a_restored_prefix_can_be_cut(model: Path) -> None:
    with loaded(model, 2) as backend:
        state = saved(backend, 0)
        assert backend.restore(1, state, len(PROMPT))
        for sequence in (0, 1):
            assert backend.keep(sequence, 20) == 20
        backend.decode([Run(0, 20, [ord("y")], 1), Run(1, 20, [ord("y")], 1)])
        assert (backend.row(0) == backend.row(1)).all()


def test_a_state_that_does_not_fit_is_refused_and_leaves_nothing(model: Path) -> None:
    with loaded(model, 2, "q8_0") as backend:
        other = saved(backend, 0)
    with loaded(model, 2) as backend:
        state = saved(backend, 0)
        empty = backend.state_size(1)
        for wrong, length in (
            (state[:-5], len(PROMPT)),
            (state[:20], len(PROMPT)),
            (state, len(PROMPT) - 1),
            (other, len(PROMPT)),
        ):
            assert not backend.restore(1, wrong, length)
            assert backend.state_size(1) == empty
        assert backend.restore(1, state, len(PROMPT))
        assert next_row(backend, 1) == next_row(backend, 0)


def test_states_of_other_types_are_told_apart(model: Path) -> None:
    kinds: set[str] = set()
    for kv_type in ("f16", "q8_0"):
        with loaded(model, 1, kv_type) as backend:
            kinds.add(backend.state_kind)
    assert len(kinds) == 2
