from __future__ import annotations

import jinja2
import pytest
from jinja2.exceptions import SecurityError
from sprat_proto.chat_rendering import compiled


def rendered(source: str) -> str:
    def noon(form: str) -> str:
        return form.replace("%H", "12")

    return compiled(source, noon).render(messages=[{"role": "user", "content": "<é>"}])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for a in [1, 2] %}{{ a }}{% break %}{% endfor %}", "1"),
        ("{% for a in [1, 2] %}{% if a < 2 %}{% continue %}{% endif %}{{ a }}{% endfor %}", "2"),
        ("{% generation %}{{ messages[0].role }}{% endgeneration %}", "user"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "<é>"}'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}", '{"a": 2, "b": 1}'),
        ("{{ [1] | tojson(indent=2) }}", "[\n  1\n]"),
        ("{{ messages[0].content }}", "<é>"),
        ("  {% if true %}\nx{% endif %}", "x"),
        ("{{ strftime_now('%H:00') }}", "12:00"),
    ],
)
def test_a_template_finds_what_those_in_the_wild_use(source: str, expected: str) -> None:
    assert rendered(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ raise_exception.__globals__.os }}",
    ],
)
def test_a_template_changes_nothing_and_gets_at_nothing_else(source: str) -> None:
    with pytest.raises(SecurityError):
        rendered(source)


def test_a_template_may_refuse_messages() -> None:
    with pytest.raises(jinja2.TemplateError, match="roles must alternate"):
        rendered("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize("source", ["{% if %}", "{% generation %}", "{{ 'a' | no_such_filter }}"])
def test_what_is_not_jinja_is_not_compiled(source: str) -> None:
    with pytest.raises(jinja2.TemplateError):
        rendered(source)
