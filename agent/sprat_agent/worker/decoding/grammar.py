"""What an answer may be, in llguidance's dialect of Lark. Pure."""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

from sprat_agent.worker.engine import EngineError

Schema: TypeAlias = dict[str, Any] | bool

# Small models may go on with white space for ever where a grammar lets them.
_SPACE: Final = r"\n?[ \t]{0,20}"
_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_NO_REFERENCE: Final = ("$schema", "$id")  # these name a schema; llguidance would look them up


def answer(schema: Schema) -> str:
    """Return the grammar of JSON that satisfies a schema; one that allows all: of any object.

    Raises:
        EngineError: not_supported: nothing satisfies it.
    """
    return f"start: {held_to(schema)}\n"


def held_to(schema: Schema) -> str:
    """Return the expression of JSON that satisfies a schema.

    Raises:
        EngineError: not_supported: nothing satisfies it.
    """
    if schema is False:
        message = "expected a JSON schema that some answer satisfies, found false"
        raise EngineError("not_supported", message)
    asked = _OBJECT if schema is True or not schema else schema
    kept = {key: value for key, value in asked.items() if key not in _NO_REFERENCE}
    return "%json " + json.dumps({**kept, "x-guidance": {"whitespace_pattern": _SPACE}})
