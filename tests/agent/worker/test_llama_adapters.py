"""llama.cpp itself with LoRAs: who asks for which, at once or in turn, gets that one's answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from simulators import models
from simulators.asked_llama import CONTEXT, LlamaModel, ask, ask_together, chat
from simulators.models import TEMPLATE
from sprat_agent.runtime.wire import AdapterFile, Embedded, Load
from sprat_agent.worker.engine import EngineError

QUESTIONS = ("Hello", "Another text", "And a third one, which is longer than the others")
NAMES = ("", "formal", "rude")


@pytest.fixture(scope="module")
def llama(
    model_files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaModel]:
    folder = tmp_path_factory.mktemp("adapters")
    adapters = tuple(
        AdapterFile(name, str(models.write_adapter(folder / f"{name}.gguf", model_files[0], seed)))
        for seed, name in enumerate(NAMES[1:])
    )
    model = LlamaModel()
    model.load(Load(str(model_files[0]), CONTEXT, 1, TEMPLATE, slots=4, adapters=adapters))
    yield model
    model.close()


@pytest.fixture(scope="module")
def alone(model_files: list[Path]) -> dict[str, str]:
    """What the model answers where no adapter was ever loaded."""
    model = LlamaModel()
    model.load(Load(str(model_files[0]), CONTEXT, 1, TEMPLATE, slots=4))
    answers = {text: ask(model, chat(text))[0] for text in QUESTIONS}
    model.close()
    return answers


def test_adapters_change_the_answers_and_detaching_restores_the_models_own(
    llama: LlamaModel, alone: dict[str, str]
) -> None:
    for text in QUESTIONS:
        answers = [ask(llama, chat(text, adapter=name))[0] for name in NAMES]
        assert answers[0] == alone[text]
        assert len(set(answers)) == len(NAMES)
        assert ask(llama, chat(text))[0] == alone[text]


def test_all_adapters_at_once_answer_as_each_alone(llama: LlamaModel) -> None:
    wanted = [chat(text, adapter=name) for text in QUESTIONS for name in NAMES]
    expected = [ask(llama, one)[0] for one in wanted]
    assert ask_together(llama, wanted) == expected
    assert ask_together(llama, wanted[::-1]) == expected[::-1]


def test_the_log_probabilities_of_the_model_are_the_same_bit_for_bit_after_an_adapter(
    llama: LlamaModel,
) -> None:
    ask(llama, chat(logprobs=3))
    before = list(llama.chosen)
    ask(llama, chat(logprobs=3, adapter="rude"))
    assert llama.chosen != before
    ask(llama, chat(logprobs=3))
    assert llama.chosen == before


def test_a_prefix_is_reused_with_the_adapter_that_computed_it_only(llama: LlamaModel) -> None:
    text = "A prompt that is long enough to be worth keeping, for one adapter"
    fresh = [ask(llama, chat(text, adapter=name))[0] for name in NAMES]
    again = [ask(llama, chat(text, adapter=name, is_fresh=False)) for name in NAMES]
    assert [answer for answer, _ in again] == fresh
    assert all(done.cached_tokens == done.prompt_tokens - 1 for _, done in again)
    other = f"Once more: {text}"
    cached = [
        ask(llama, chat(other, adapter=name, is_fresh=False))[1].cached_tokens for name in NAMES
    ]
    assert cached == [0, 0, 0]


def test_vectors_are_the_models_own(llama: LlamaModel) -> None:
    before = llama.embed("a text")
    ask(llama, chat(adapter="formal"))
    after = llama.embed("a text")
    assert isinstance(before, Embedded)
    assert before == msgspec.structs.replace(after, id=before.id)


def test_an_adapter_that_is_not_there_is_refused_by_name(llama: LlamaModel) -> None:
    with pytest.raises(EngineError, match="'c' is not here; there are: formal, rude") as caught:
        ask(llama, chat(adapter="c"))
    assert caught.value.code == "model_not_found"


def test_an_adapter_of_another_model_is_refused_with_llama_cpps_reason(
    model_files: list[Path], tmp_path: Path
) -> None:
    (wide,) = models.write_model(tmp_path / "wide.gguf", models.Shape(width=128))
    path = models.write_adapter(tmp_path / "adapter.gguf", wide, 1)
    source = Load(
        str(model_files[0]), CONTEXT, 1, TEMPLATE, adapters=(AdapterFile("wide", str(path)),)
    )
    with pytest.raises(EngineError, match=r"cannot load the adapter 'wide': .*incorrect shape"):
        LlamaModel().load(source)
