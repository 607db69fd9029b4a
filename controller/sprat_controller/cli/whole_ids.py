"""Ids as people type them: whole, or as much of the beginning as tells one from the others."""

from __future__ import annotations

import re
from typing import Final

from sprat_controller.cli import words
from sprat_controller.cli.client import Api
from sprat_controller.cli.exits import CliError, Exit, NotFoundError

# The beginning of a UUID; a whole one has 36 letters.
_BEGINNING: Final = re.compile(r"[0-9a-f-]{8,35}", re.ASCII)
_TOLD: Final = 3  # of those that begin so


def whole(api: Api, path: str, text: str, what: str) -> str:
    """Return the whole id; the controller is asked only for the beginning of one.

    Args:
        api: The controller.
        path: Of the list that it stands in.
        text: What was typed.
        what: Whose id it is, such as `a rollout`.

    Raises:
        CliError: It is no id, or nothing or more than one thing begins so.
    """
    words.identifier(text, what)
    if _BEGINNING.fullmatch(text) is None:
        return text
    listed = (str(one["id"]) for one in api.pages(path, {"id": text}))
    found = [one for one in listed if one.startswith(text)]
    if not found:
        raise NotFoundError(f"there is no {what.partition(' ')[2]} whose id begins with {text}")
    if len(found) > 1:
        more = ", ..." if len(found) > _TOLD else ""
        raise CliError(
            f"expected the id of {what}, found {len(found)} that begin with {text}"
            f" ({', '.join(found[:_TOLD])}{more}): say more of it",
            Exit.USAGE,
        )
    return found[0]
