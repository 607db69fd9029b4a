"""Long runs of letters or spaces are cut, and do not end the worker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulators.models import Shape, write_model
from sprat_agent.worker.long_runs import LONGEST, parts

NAMES = ("<|im_end|>", "[TOOL_CALLS]")


def stretch(text: str, count: int) -> str:
    return text * count


STRETCHES = st.builds(
    stretch,
    st.sampled_from(["a", " ", "\n", "é", "<", "a1_", *NAMES]),
    st.integers(1, LONGEST // 8) | st.just(LONGEST),
)
TOKENIZE = """
import sys, threading, llama_cpp
from sprat_agent.worker.llama import LlamaVocabulary
parameters = llama_cpp.llama_model_default_params()
parameters.vocab_only = True
vocabulary = LlamaVocabulary(llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), parameters))
def count():
    print(*(len(vocabulary.tokenize(one * 100_000, has_special=True)) for one in "a 1"))
threading.Thread(target=count).start()  # the main thread's stack may be longer
"""


@settings(deadline=None)
@given(st.lists(STRETCHES, max_size=4))
def test_parts_make_the_text_and_have_no_long_runs(stretches: list[str]) -> None:
    text = "".join(stretches)
    found = list(parts(text))
    assert "".join(found) == text
    assert all(len(run) <= LONGEST for one in found for run in re.findall(r"\S+|\s+", one))
    for name in NAMES:
        assert sum(one.count(name) for one in found) == text.count(name)


@given(st.text(max_size=LONGEST))
def test_a_text_without_long_runs_is_not_cut(text: str) -> None:
    assert list(parts(text)) == [text]


@pytest.mark.parametrize("pre", ["tekken", "deepseek-llm", "gpt-4o", "default"])
def test_a_long_run_does_not_end_the_process(tmp_path: Path, pre: str) -> None:
    (path,) = write_model(tmp_path / "one.gguf", Shape(pre=pre))
    made = subprocess.run(
        [sys.executable, "-c", TOKENIZE, str(path)], capture_output=True, text=True, check=False
    )
    assert (made.returncode, made.stdout.split()) == (0, ["100000"] * 3), made.stderr
