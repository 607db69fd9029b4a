from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import llama_cpp
import pytest
from simulators import demo_model
from sprat_controller.publisher.quantize import (
    FILE_TYPES,
    TERNARY,
    QuantizeError,
    kind_of,
    quantize,
)
from sprat_proto import gguf

TRAINED = [kind for kind in FILE_TYPES if kind not in TERNARY]
NOT_INSTALLED = 3  # the child's exit status


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_model.make(tmp_path_factory.mktemp("model") / "source.gguf")


@contextmanager
def loaded(path: Path) -> Generator[llama_cpp.Llama]:
    model = llama_cpp.Llama(str(path), n_ctx=256, verbose=False)
    try:
        yield model
    finally:
        model.close()


@pytest.mark.parametrize("kind", TRAINED)
def test_a_variant_is_smaller_and_still_speaks(source: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / f"{kind}.gguf"
    quantize(source, target, kind, threads=2)
    assert kind_of(gguf.check(target)) == kind
    assert (target.stat().st_size < source.stat().st_size) == (kind != "f16")
    with loaded(target) as model:
        answer = model.create_chat_completion(
            [{"role": "user", "content": "What are you?"}], temperature=0, max_tokens=64
        )
    assert isinstance(answer, dict)
    assert answer["choices"][0]["message"]["content"] == demo_model.default_sentence()
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_ternary_forms_of_other_weights_are_refused(source: Path, tmp_path: Path) -> None:
    for kind in TERNARY:
        said = refused(source, tmp_path / "out.gguf", kind)
        assert "blk.0.attn_q.weight of source.gguf" in said
        assert "llama.cpp" not in said


def test_one_is_told_how_it_goes_on(source: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def done(count: int, of: int) -> None:
        told.append((count, of))

    quantize(source, tmp_path / "q4.gguf", "q4_0", done=done)
    total = len(gguf.check(source).tensors)
    assert told == [(number + 1, total) for number in range(total)]


def test_paths_may_be_relative(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    target = Path(os.path.relpath(tmp_path / "q4.gguf"))
    quantize(Path(source.name), target, "q4_0")
    assert kind_of(gguf.check(tmp_path / "q4.gguf")) == "q4_0"


def test_a_file_that_has_the_form_already_is_copied(source: Path, tmp_path: Path) -> None:
    quantize(source, tmp_path / "q8.gguf", "q8_0")
    quantize(tmp_path / "q8.gguf", tmp_path / "again.gguf", "q8_0")
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "q8.gguf").read_bytes()


def test_quantizing_twice_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    quantize(source, tmp_path / "a", "q4_0", threads=1)
    quantize(source, tmp_path / "b", "q4_0", threads=2)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def refused(source: Path, target: Path, kind: str) -> str:
    with pytest.raises(QuantizeError) as caught:
        quantize(source, target, kind)
    assert not target.exists()
    assert list(target.parent.glob(".*partial")) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_form_is_refused(source: Path, tmp_path: Path) -> None:
    assert "q8_0" in refused(source, tmp_path / "out.gguf", "q9_9")


def test_one_loss_on_top_of_another_is_refused(source: Path, tmp_path: Path) -> None:
    quantize(source, tmp_path / "q8.gguf", "q8_0")
    assert "push the original" in refused(tmp_path / "q8.gguf", tmp_path / "out.gguf", "q4_0")


def test_a_file_that_is_no_model_is_refused_before_llama_cpp_sees_it(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(gguf.ModelFileError):
        quantize(tmp_path / "text.gguf", tmp_path / "out.gguf", "q4_0")


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the child process run `code` instead of llama.cpp."""
    command = (sys.executable, "-c", code)
    monkeypatch.setattr("sprat_controller.publisher.quantize.COMMAND", command)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with signal 11"),
        ("import os; os.abort()", "crashed with signal 6"),
        ("import sys; sys.exit(3)", "pip install sprat-controller[publish]"),
        ("import sys; print('no room', file=sys.stderr); sys.exit(4)", "no room"),
        ("import sys; sys.exit(4)", "no reason"),
        ("import sys; open(sys.argv[2], 'wb').write(b'half'); sys.exit(4)", "no reason"),
    ],
)
def test_native_code_that_fails_costs_one_sentence(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    child(monkeypatch, code)
    assert said in refused(source, tmp_path / "out.gguf", "q4_0")


def test_without_the_extra_one_is_told_what_to_install(source: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "llama_cpp.py").write_text("raise ImportError('not installed')")
    command = [sys.executable, "-m", "sprat_controller.publisher.quantize"]
    done = subprocess.run(
        [*command, str(source), str(tmp_path / "out"), "q4_0", "1"],
        check=False,
        env={**os.environ, "PYTHONPATH": str(blocked)},
    )
    assert done.returncode == NOT_INSTALLED


def test_the_controller_does_not_load_llama_cpp_by_importing_this() -> None:
    code = "import sys, sprat_controller.publisher.push; sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_is_loaded_from_where_one_works(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise RuntimeError('taken from here')")
    monkeypatch.chdir(tmp_path)
    quantize(source, tmp_path / "q4.gguf", "q4_0")
