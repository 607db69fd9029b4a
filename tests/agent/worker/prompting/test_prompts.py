"""From what a request asks to tokens, on a vocabulary of bytes."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from simulators.byte_vocabulary import BOS, BYTES, EOS, ByteVocabulary
from sprat_agent.runtime.wire import Conversation, Message, Prompt, Text, Tokens, Tool, ToolCall
from sprat_agent.worker.engine import EngineError
from sprat_agent.worker.prompting.prompts import Prompts

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<assistant>"
)
CONTEXT = 2048
KNOWS_TOOLS = "{# <tool_call> #}"  # in a comment: what the format is told by
VOCABULARY = ByteVocabulary(controls=["<|im_start|>"])
FRAMED = ByteVocabulary(is_framed=True)
TOOL = Tool("weather", "Tells <the> weather", {"type": "object"})
HELLO = (Message("user", "Hello"),)


def prompt_of(template: str, conversation: Conversation) -> str:
    tokens = Prompts(VOCABULARY, template).tokens(conversation, CONTEXT)
    return b"".join(map(VOCABULARY.name, tokens)).decode()


def refused(prompt: Prompt, *, template: str = TEMPLATE, context: int = CONTEXT) -> EngineError:
    prompts = Prompts(VOCABULARY, template)
    with pytest.raises(EngineError) as caught:
        prompts.tokens(prompt, context)
    return caught.value


def test_messages_are_put_by_the_template() -> None:
    assert prompt_of(TEMPLATE, Conversation(HELLO)) == "<user>Hello<assistant>"


def test_control_tokens_of_the_template_are_single_tokens() -> None:
    prompts = Prompts(VOCABULARY, "{{ bos_token }}<|im_start|>")
    assert prompts.tokens(Conversation(HELLO), CONTEXT) == [BOS, BYTES + 2]


def test_a_model_without_an_end_has_no_text_for_it() -> None:
    prompts = Prompts(ByteVocabulary(has_end=False), "{{ bos_token }}{{ eos_token }}")
    assert prompts.tokens(Conversation(HELLO), CONTEXT) == [BOS]


def test_a_text_is_taken_as_it_is() -> None:
    assert Prompts(VOCABULARY, "").tokens(Text("ab"), CONTEXT) == list(b"ab")


def test_a_text_begins_and_ends_as_the_models_texts_do() -> None:
    prompts = Prompts(FRAMED, TEMPLATE)
    assert prompts.tokens(Text("ab"), CONTEXT) == [BOS, *b"ab", EOS]
    assert prompts.tokens(Text("<s>ab</s>"), CONTEXT) == [BOS, *b"ab", EOS]
    assert prompts.tokens(Tokens((1, 2)), CONTEXT) == [1, 2]
    assert prompts.tokens(Conversation(HELLO), CONTEXT) == list(b"<user>Hello<assistant>")


@pytest.mark.parametrize("text", [Text("abcd"), Tokens(tuple(b"abcd"))])
def test_what_is_cut_for_a_vector_keeps_its_beginning_and_end(text: Text | Tokens) -> None:
    prompts = Prompts(FRAMED, "")
    assert prompts.text(text, 6, is_truncated=False) == [BOS, *b"abcd", EOS]
    assert prompts.text(text, 6, is_truncated=True) == [BOS, *b"abcd", EOS]
    assert prompts.text(text, 5, is_truncated=True) == [BOS, *b"abc", EOS]
    with pytest.raises(EngineError) as refused:
        prompts.text(text, 5, is_truncated=False)
    assert refused.value.code == "context_length_exceeded"


@given(st.text(), st.integers(2, 40), st.booleans())
def test_a_text_to_make_a_vector_of_never_exceeds_the_context(
    text: str,
    context: int,
    is_framed: bool,  # noqa: FBT001 - drawn
) -> None:
    vocabulary = ByteVocabulary(is_framed=is_framed)
    assume(text or is_framed)
    tokens = Prompts(vocabulary, "").text(Text(text), context, is_truncated=True)
    assert 0 < len(tokens) <= context
    assert tokens == vocabulary.framed(tokens)


def test_tokens_are_taken_as_they_are() -> None:
    assert Prompts(VOCABULARY, "").tokens(Tokens((1, BOS)), CONTEXT) == [1, BOS]


@pytest.mark.parametrize("token", [-1, VOCABULARY.size])
def test_tokens_that_the_model_does_not_have_are_refused(token: int) -> None:
    error = refused(Tokens((1, token)))
    assert error.code == "messages_refused"
    assert error.message == f"expected tokens from 0 to {VOCABULARY.size - 1}, found {token}"


@pytest.mark.parametrize("prompt", [Text(""), Tokens(())])
def test_nothing_to_answer_is_refused(prompt: Prompt) -> None:
    assert refused(prompt).message == "expected some text to answer, found none"


def test_a_prompt_leaves_room_for_an_answer() -> None:
    prompts = Prompts(VOCABULARY, "")
    assert len(prompts.tokens(Text("x" * 9), 10)) == 9
    error = refused(Text("x" * 10), context=10)
    assert error.code == "context_length_exceeded"
    assert "context is 10 tokens; the prompt takes 10" in error.message


def test_without_a_template_messages_are_refused() -> None:
    error = refused(Conversation(HELLO), template="")
    assert error.code == "messages_refused"
    assert "expected a chat template in the release's manifest" in error.message


@pytest.mark.parametrize("template", ["{% for", "{{ " + "(" * 9999, "{% if 1 %}" * 200])
def test_a_template_that_cannot_be_compiled_is_refused_at_the_load(template: str) -> None:
    with pytest.raises(EngineError, match="the release's chat template") as caught:
        Prompts(VOCABULARY, template)
    assert caught.value.code == "load_failed"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('system first') }}", "refuses these messages: system first"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "refuses these messages"),
        ("{{ messages.append(1) }}", "refuses these messages"),
        ("{{ cycler.__init__.__globals__ }}", "refuses these messages"),
        ("{{ self._TemplateReference__context }}", "found none"),
        ("{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3, "more than 1 s"),
        ("{{ messages[0].content * 2000000000 }}", "more than 256 MiB"),
        ("{{ messages[0].content * 999999 }}", "at most 4194304 characters"),
    ],
)
def test_a_template_that_does_what_it_may_not_costs_its_request_only(
    template: str, why: str
) -> None:
    error = refused(Conversation(HELLO), template=template)
    assert error.code == "messages_refused"
    assert why in error.message


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for a in [1, 2] %}{{ a }}{% break %}{% endfor %}", "1"),
        ("{% generation %}as it is{% endgeneration %}", "as it is"),
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("  {% if true %}\nx{% endif %}", "x"),
        ("{{ strftime_now('%%') }}", "%"),
        ("{{ add_generation_prompt }}", "True"),
        ("{{ tools is defined }}", "False"),
    ],
)
def test_templates_find_what_those_in_the_wild_use(template: str, expected: str) -> None:
    assert prompt_of(template, Conversation(HELLO)) == expected


def test_template_arguments_are_variables_that_hide_no_others() -> None:
    arguments = {"enable_thinking": False, "messages": "mine", "add_generation_prompt": False}
    conversation = Conversation(HELLO, template_arguments=arguments)
    template = "{{ enable_thinking }} {{ messages[0].content }} {{ add_generation_prompt }}"
    assert prompt_of(template, conversation) == "False Hello True"


def test_tools_are_described_as_openai_does() -> None:
    assert prompt_of(KNOWS_TOOLS + "{{ tools | tojson }}", Conversation(HELLO, (TOOL,))) == (
        '[{"type": "function", "function": {"name": "weather",'
        ' "description": "Tells <the> weather", "parameters": {"type": "object"}}}]'
    )


def test_tools_that_may_not_be_called_are_not_told() -> None:
    conversation = Conversation(HELLO, (TOOL,), tool_choice="none")
    assert prompt_of(KNOWS_TOOLS + "{{ tools is defined }}", conversation) == "False"


def test_calls_of_earlier_turns_have_their_arguments_parsed() -> None:
    messages = (
        Message("assistant", "", (ToolCall("call_1", "weather", '{"days": 2}'),)),
        Message("tool", "sunny", tool_call_id="call_1", name="weather"),
    )
    template = KNOWS_TOOLS + (
        "{% for call in messages[0].tool_calls %}"
        "{{ call.id }} {{ call.type }} {{ call.function.name }} {{ call.function.arguments.days }}"
        "{% endfor %} {{ messages[1].tool_call_id }} {{ messages[1].name }} {{ tools is defined }}"
        "{{ messages[1].tool_calls is defined }}"
    )
    expected = "call_1 function weather 2 call_1 weather FalseFalse"
    assert prompt_of(template, Conversation(messages)) == expected


def test_arguments_that_break_off_stay_text() -> None:
    messages = (Message("assistant", "", (ToolCall("call_1", "weather", '{"days'),)),)
    template = KNOWS_TOOLS + "{{ messages[0].tool_calls[0].function.arguments }}"
    assert prompt_of(template, Conversation(messages)) == '{"days'


def test_ids_of_calls_are_cut_to_what_mistrals_templates_take() -> None:
    messages = (
        Message("assistant", "", (ToolCall("call_1", "a", "{}"), ToolCall("abcdefgh9", "a", "{}"))),
        Message("tool", "sunny", tool_call_id="call_1"),
    )
    template = (
        "{# [TOOL_CALLS] #}{{ messages[0].tool_calls[0].id }} {{ messages[1].tool_call_id }}"
        " {{ messages[0].tool_calls[1].id }}"
    )
    called, answered, kept = prompt_of(template, Conversation(messages)).split()
    assert called == answered
    assert len(called) == 9
    assert called.isalnum()
    assert kept == "abcdefgh9"


@pytest.mark.parametrize(
    ("messages", "begins"),
    [
        (HELLO, "<system>You may call functions."),
        ((Message("system", "Be kind."), *HELLO), "<system>Be kind.\n\nYou may call functions."),
    ],
)
def test_a_template_that_knows_no_tools_is_helped_by_a_system_message(
    messages: tuple[Message, ...], begins: str
) -> None:
    prompt = prompt_of(TEMPLATE, Conversation(messages, (TOOL,)))
    assert prompt.startswith(begins)
    assert '{"name": "weather", "description": "Tells <the> weather"' in prompt
    assert prompt.count("<system>") == 1
    assert prompt.endswith("<user>Hello<assistant>")


def test_without_tools_no_system_message_is_added() -> None:
    conversation = Conversation(HELLO, (TOOL,), tool_choice="none")
    assert prompt_of(TEMPLATE, conversation) == "<user>Hello<assistant>"


def test_a_template_that_knows_no_tools_has_earlier_calls_as_text() -> None:
    messages = (
        Message("assistant", "Let me see.", (ToolCall("call_1", "weather", '{"days": 2}'),)),
        Message("tool", "sunny", tool_call_id="call_1"),
    )
    assert prompt_of(TEMPLATE, Conversation(messages)) == (
        '<assistant>Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"days": 2}}\n'
        "</tool_call><user><tool_response>\nsunny\n</tool_response><assistant>"
    )
