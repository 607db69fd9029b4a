"""llama.cpp itself, on a tiny real model, in this process."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators import models
from simulators.asked_llama import CONTEXT, LlamaModel, ask, ask_together, chat
from simulators.models import TEMPLATE
from sprat_agent.runtime.wire import Done, Embedded, Load, Piece, Request, Sampling, Text, Tokens
from sprat_agent.worker.engine import EngineError


@pytest.fixture(scope="module")
def llama(model_files: list[Path]) -> Iterator[LlamaModel]:
    model = LlamaModel()
    assert model.load(Load(str(model_files[0]), CONTEXT, 1, TEMPLATE, slots=3)) == CONTEXT
    yield model
    model.close()


def test_greedy_answers_are_equal_every_time(llama: LlamaModel) -> None:
    text, finished = ask(llama, chat())
    assert ask(llama, chat())[0] == text
    assert finished.finish == "length"
    assert finished.completion_tokens == 16
    assert finished.prompt_tokens == len("<user>Hello<assistant>")


def test_a_reused_prefix_gives_the_same_answer(llama: LlamaModel) -> None:
    text, _ = ask(llama, chat("One two three"))
    ask(llama, chat("One two four"))
    again, finished = ask(llama, chat("One two three", is_fresh=False))
    assert again == text
    assert finished.prompt_tokens == len("<user>One two three<assistant>")


def test_a_seed_makes_sampling_repeat_itself(llama: LlamaModel) -> None:
    hot = [ask(llama, chat(temperature=1.5, seed=seed))[0] for seed in (7, 7, 8)]
    assert hot[0] == hot[1]
    assert hot[0] != hot[2]


@pytest.mark.parametrize("temperature", [1e-7, 1e-38, 1e-45, 1e-300])
def test_hardly_any_temperature_is_none(llama: LlamaModel, temperature: float) -> None:
    greedy, _ = ask(llama, chat())
    assert ask(llama, chat(temperature=temperature, seed=1))[0] == greedy
    bias = ((0, 0.1),)  # with a chain of samplers, too
    assert ask(llama, chat(temperature=temperature, logit_bias=bias, seed=1))[0] == greedy


def test_an_answer_never_leaves_the_context(llama: LlamaModel) -> None:
    _, finished = ask(llama, chat("x" * 200, max_tokens=None, temperature=1.0, seed=1))
    assert finished.prompt_tokens + finished.completion_tokens <= CONTEXT


def test_messages_longer_than_the_context_are_refused(llama: LlamaModel) -> None:
    with pytest.raises(EngineError, match="context is 256 tokens; the prompt takes") as caught:
        ask(llama, chat("x" * 300))
    assert caught.value.code == "context_length_exceeded"
    assert ask(llama, chat())[0]


def test_a_text_begins_as_the_models_do_and_a_conversation_as_its_template_says(
    tmp_path: Path,
) -> None:
    (path,) = models.write_model(tmp_path / "begins.gguf", models.Shape(has_beginning=True))
    model = LlamaModel()
    model.load(Load(str(path), CONTEXT, 1, TEMPLATE))
    prompts = {Text("Hello"): 6, Text("<s>Hello"): 6, Tokens((1, 2)): 2}
    for prompt, length in prompts.items():
        assert ask(model, Request(prompt, max_tokens=1))[1].prompt_tokens == length
    assert ask(model, chat())[1].prompt_tokens == len("<user>Hello<assistant>")
    made = model.embed("Hello")
    assert isinstance(made, Embedded)
    assert made.prompt_tokens == 6
    model.close()


def test_a_stop_string_ends_the_answer(llama: LlamaModel) -> None:
    text, _ = ask(llama, chat())
    stop = text[3:5]
    cut, finished = ask(llama, chat(stop=(stop,)))
    assert cut == text.partition(stop)[0]
    assert finished.finish == "stop"


def test_an_answer_given_up_leaves_the_model_well(llama: LlamaModel) -> None:
    text, _ = ask(llama, chat())
    number = llama.submit(chat("Something else", is_fresh=False, max_tokens=200))
    assert isinstance(llama.hear(), Piece)
    llama.scheduler.cancel(number)
    while isinstance(answer := llama.hear(), Piece):
        pass
    assert isinstance(answer, Done)
    assert answer.finish == "cancelled"
    assert ask(llama, chat())[0] == text


def test_a_template_that_refuses_is_the_requests_fault(tmp_path: Path) -> None:
    (path,) = models.write_model(tmp_path / "strict.gguf")
    model = LlamaModel()
    model.load(Load(str(path), CONTEXT, 1, "{{ raise_exception('system first') }}"))
    with pytest.raises(EngineError, match="chat template refuses these messages: system first"):
        ask(model, chat())
    model.close()


@pytest.mark.parametrize("hostile", ["{% for", "{{ ''.__class__.__mro__ }}", "{% include 'x' %}"])
def test_the_template_in_the_file_is_never_compiled(tmp_path: Path, hostile: str) -> None:
    (path,) = models.write_model(tmp_path / "hostile.gguf", models.Shape(template=hostile))
    model = LlamaModel()
    model.load(Load(str(path), CONTEXT, 1, TEMPLATE))
    _, finished = ask(model, chat())
    assert finished.prompt_tokens == len("<user>Hello<assistant>")
    model.close()


def test_without_a_signed_template_messages_are_refused(model_files: list[Path]) -> None:
    model = LlamaModel()
    model.load(Load(str(model_files[0]), CONTEXT, 1, ""))
    with pytest.raises(EngineError, match="expected a chat template in the release's manifest"):
        ask(model, chat())
    model.close()


def test_a_signed_template_that_is_not_jinja_is_refused_at_the_load(
    model_files: list[Path],
) -> None:
    with pytest.raises(EngineError, match="is not Jinja"):
        LlamaModel().load(Load(str(model_files[0]), CONTEXT, 1, "{% for"))


@pytest.mark.parametrize(
    "escape",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
    ],
)
def test_a_signed_template_stays_in_its_sandbox(model_files: list[Path], escape: str) -> None:
    model = LlamaModel()
    model.load(Load(str(model_files[0]), CONTEXT, 1, escape))
    with pytest.raises(EngineError):
        ask(model, chat())
    model.close()


@pytest.mark.parametrize(
    ("endless", "why"),
    [
        ("{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3, "more than 1 s"),
        ("{{ messages[0].content * 2000000000 }}", "more than 256 MiB"),
        ("{{ messages[0].content * 999999 }}", "at most 4194304 characters"),
    ],
)
def test_a_signed_template_that_takes_too_much_costs_its_request_only(
    model_files: list[Path], endless: str, why: str
) -> None:
    model = LlamaModel()
    template = "{% if messages[0].content == 'Hello' %}" + endless + "{% endif %}fine"
    model.load(Load(str(model_files[0]), CONTEXT, 1, template))
    with pytest.raises(EngineError, match=why) as caught:
        ask(model, chat())
    assert caught.value.code == "messages_refused"
    assert ask(model, chat("Another"))[1].prompt_tokens == len("fine")
    model.close()


@pytest.mark.parametrize(
    "heavy",
    ["{% if 1 %}" * 200 + "{% endif %}" * 200, "{{ " + "(" * 9999],
)
def test_a_signed_template_that_cannot_be_compiled_is_refused_at_the_load(
    model_files: list[Path], heavy: str
) -> None:
    with pytest.raises(EngineError, match="chat template") as caught:
        LlamaModel().load(Load(str(model_files[0]), CONTEXT, 1, heavy))
    assert caught.value.code == "load_failed"


def test_a_context_longer_than_the_model_was_trained_for_is_cut(model_files: list[Path]) -> None:
    model = LlamaModel()
    assert model.load(Load(str(model_files[0]), 4096, 1, TEMPLATE)) == models.Shape().context
    model.close()


def test_a_file_that_breaks_off_is_refused_with_llama_cpps_reason(
    model_files: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(model_files[0].read_bytes()[:-1000])
    with pytest.raises(EngineError, match="not within the file bounds"):
        LlamaModel().load(Load(str(broken), CONTEXT, 1, TEMPLATE))


def continued(prompt: Text | Tokens) -> Request:
    return Request(prompt, Sampling(temperature=0), max_tokens=16, is_fresh=True)


def test_a_text_is_gone_on_with_as_it_is(llama: LlamaModel) -> None:
    text, finished = ask(llama, continued(Text("<user>Hello<assistant>")))
    assert text == ask(llama, chat())[0]
    assert finished.prompt_tokens == len("<user>Hello<assistant>")


def test_tokens_are_gone_on_with_as_they_are(llama: LlamaModel) -> None:
    text = "<user>Hello<assistant>"
    tokens = Tokens(tuple(text.encode()))  # the vocabulary is one of bytes
    assert ask(llama, continued(tokens))[0] == ask(llama, continued(Text(text)))[0]


@pytest.mark.parametrize("token", [-1, 258, 1 << 40])
def test_a_token_that_the_model_does_not_have_is_refused(llama: LlamaModel, token: int) -> None:
    with pytest.raises(EngineError, match=f"expected tokens from 0 to 257, found {token}"):
        ask(llama, continued(Tokens((1, token))))


def test_a_bias_makes_a_token_likelier(llama: LlamaModel) -> None:
    bias = ((ord("A"), 100.0), (1 << 40, 100.0))  # what the model does not have changes nothing
    assert ask(llama, chat(max_tokens=5, logit_bias=bias))[0] == "AAAAA"


def test_a_penalty_keeps_an_answer_from_repeating_tokens(llama: LlamaModel) -> None:
    plain = ask(llama, chat(max_tokens=64))[0]
    penalised = ask(llama, chat(max_tokens=64, frequency_penalty=2.0))[0]
    assert len(set(penalised)) > len(set(plain))


def test_requests_side_by_side_answer_as_if_alone(llama: LlamaModel) -> None:
    texts = ["Hello", "Another text", "And a third one, which is longer than the others"]
    alone = [ask(llama, chat(text))[0] for text in texts]
    assert ask_together(llama, [chat(text) for text in texts]) == alone


def test_a_schema_holds_the_answer(llama: LlamaModel) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 10, "maximum": 19}},
        "required": ["age"],
        "additionalProperties": False,
    }
    text, done = ask(llama, chat(schema=schema, max_tokens=60, temperature=1.0, seed=1))
    assert 10 <= json.loads(text)["age"] <= 19
    assert done.finish == "stop"


def test_log_probabilities_are_the_models_own(llama: LlamaModel) -> None:
    ask(llama, chat(max_tokens=4, logprobs=3))
    assert len(llama.chosen) == 4
    for one in llama.chosen:
        assert one.logprob == one.top[0].logprob  # greedy
        assert sum(math.exp(other.logprob) for other in one.top) <= 1
        ranks = [other.logprob for other in one.top]
        assert ranks == sorted(ranks, reverse=True)


def test_vectors_have_length_one_and_tell_texts_apart(llama: LlamaModel) -> None:
    made = llama.embed("one text", "one text", "quite another")
    assert isinstance(made, Embedded)
    first, same, other = (struct.unpack(f"<{len(one) // 4}f", one) for one in made.vectors)
    assert math.isclose(sum(value * value for value in first), 1, rel_tol=1e-4)
    assert first == same
    assert sum(a * b for a, b in zip(first, other, strict=True)) < 0.999
    assert ask(llama, chat())[0]


def test_keys_and_values_may_be_quantized(tmp_path: Path) -> None:
    files = models.write_model(tmp_path / "wide.gguf", models.Shape(width=128))  # 32 a head
    model = LlamaModel()
    model.load(Load(str(files[0]), CONTEXT, 1, TEMPLATE, slots=2, kv_type="q8_0"))
    assert ask(model, chat())[1].completion_tokens == 16
    model.close()


def test_values_that_cannot_be_quantized_are_refused_at_the_load(model_files: list[Path]) -> None:
    with pytest.raises(EngineError, match="block size 32 does not divide"):
        LlamaModel().load(Load(str(model_files[0]), CONTEXT, 1, TEMPLATE, kv_type="q8_0"))
