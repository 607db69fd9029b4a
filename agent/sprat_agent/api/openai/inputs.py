"""Texts as OpenAI's older requests give them: one or several, as they are or in tokens. Pure."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from sprat_agent.api.faults import ApiError, invalid
from sprat_agent.runtime.wire import Text, Tokens

TokenId: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 31)]
Inputs: TypeAlias = str | list[str | TokenId | list[TokenId]]


def meaning(given: Inputs, param: str, most: int) -> tuple[Text | Tokens, ...]:
    """Return the texts.

    Args:
        given: A text, texts, tokens of one text, or tokens of several.
        param: The field's name, for errors.
        most: How many texts there may be.

    Raises:
        ApiError: There is none, there are too many, or they are of different kinds.
    """
    if isinstance(given, str):
        return (Text(given),)
    if given and all(isinstance(one, int) for one in given):
        return (Tokens(tuple(one for one in given if isinstance(one, int))),)
    if not 0 < len(given) <= most:
        raise invalid(f"expected 1 to {most} texts in {param!r}, found {len(given)}", param=param)
    if len({type(one) for one in given}) > 1:
        message = f"expected only texts or only lists of tokens in {param!r}, found both"
        raise invalid(message, param=param)
    return tuple(_one(one, param) for one in given)


def _one(given: str | int | list[int], param: str) -> Text | Tokens:
    if isinstance(given, str):
        return Text(given)
    if isinstance(given, int) or not given:
        raise _empty(param)
    return Tokens(tuple(given))


def _empty(param: str) -> ApiError:
    return invalid(f"a list of tokens in {param!r} is empty: expected at least one", param=param)
