"""A chat template makes of a golden prompt here what a device's worker makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.runtime.wire import Message
from sprat_agent.worker.prompting.template import ChatTemplate as OnDevice
from sprat_agent.worker.prompting.turns import turns
from sprat_controller.publisher.evaluate.chat_template import ChatTemplate, ChatTemplateError

CHATML = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPACED = """{{ bos_token }}
{%- for m in messages -%}
  {% if m['role'] == 'user' %}
[INST] {{ m.content | trim }} [/INST]
  {% endif %}
{%- endfor -%}{{ eos_token }}
"""
TEMPLATES = (
    CHATML,
    SPACED,
    "{% generation %}{{ messages | tojson }}{% endgeneration %}{{ tools is defined }}",
    "{% for m in messages %}{{ m.content | tojson(indent=2) }}{% break %}{% endfor %}",
    "{% if messages[0].tool_calls is defined %}calls{% else %}{{ messages[0] }}{% endif %}",
)


@given(st.sampled_from(TEMPLATES), st.text(max_size=60))
def test_both_render_the_same(source: str, prompt: str) -> None:
    variables = {
        "messages": turns([Message("user", prompt)]),
        "add_generation_prompt": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    assert ChatTemplate(source).render(prompt, "<s>", "</s>") == OnDevice(source).render(variables)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "expected a chat template to put golden prompts with, found none"),
        ("{% if %}", "the chat template is not Jinja"),
        ("{{ 1 // 0 }}", "refuses the golden prompt"),
        ("{{ raise_exception('one\ntwo') }}", r"refuses the golden prompt 'Who\?': one two"),
        ("{{ messages.append(1) }}", "refuses the golden prompt"),
        ("{{ ''.__class__.__mro__ }}", "refuses the golden prompt"),
    ],
)
def test_what_is_no_template_is_one_sentence(source: str, why: str) -> None:
    with pytest.raises(ChatTemplateError, match=why) as raised:
        ChatTemplate(source).render("Who?", "", "")
    assert len(str(raised.value).splitlines()) == 1
