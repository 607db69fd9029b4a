from __future__ import annotations

import pytest
from sprat_proto.chat_template import presents_tools


@pytest.mark.parametrize(
    "template",
    [
        "{{ tools }}",
        "{%- if tools %}# Tools{%- endif %}",
        "{% for tool in tools %}{{ tool | tojson }}{% endfor %}",
        "{%- if not tools is defined %}{%- set tools = none %}{%- endif %}",
        '{{ "a %} b" ~ tools }}',
        "It's {{ tools }}",
        'an "open quotation {{ tools }}',
        "{# a comment #}{{ tools|length }}",
        "{#}}#}{{(tools)}}",
        "{{ messages }}{% if x %}{{ fn(tools) }}{% endif %}",
    ],
)
def test_a_template_whose_tags_use_the_tools_presents_them(template: str) -> None:
    assert presents_tools(template)


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{{ messages }}",
        "You have no tools. {{ messages }}",
        "{# tools #}{{ messages }}",
        "{# {{ tools }} #}{{ messages }}",
        '{{ \'no tools\' }}{{ "or \\" tools" }}',
        "{{ message.tools }}{{ builtin_tools }}{{ toolset }}",
        "{{ message['tools'] }}",
        "{{ messages }} tools {{ messages }}",
    ],
)
def test_the_word_alone_does_not(template: str) -> None:
    assert not presents_tools(template)


@pytest.mark.parametrize("begin", ["", "{{", "{#"])
@pytest.mark.parametrize("piece", ["{{", "'", '"', "{#", "\\'", "'\\", "xtools", "'{{", "}}", "#}"])
def test_the_longest_template_is_looked_at_once(begin: str, piece: str) -> None:
    # Were it looked at again from each piece on, this would take minutes.
    assert not presents_tools(begin + piece * ((1 << 16) // len(piece)) + "\\")
