"""One answer in the making: which tokens may come, and what of those that came is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sprat_agent.runtime.wire import ToolCallPart

Row: TypeAlias = NDArray[np.float32]  # one logit for each token of the vocabulary


@dataclass(frozen=True)
class Part:
    """What one more token, or the end, makes visible."""

    text: str = ""
    tool_calls: tuple[ToolCallPart, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.text or self.tool_calls)


class Decoding(Protocol):
    """The state of one answer; `take` each token in turn, `end` once."""

    @property
    def is_constrained(self) -> bool:
        """Not every token may come next: `mask` the row before choosing from it."""
        ...

    @property
    def is_over(self) -> bool:
        """Nothing more can come: a stop string or a whole answer has been seen."""
        ...

    @property
    def finish(self) -> Literal["stop", "tool_calls"]:
        """How it ended, if not for length."""
        ...

    @property
    def stopped_by(self) -> str:
        """The stop string that ended it, if one did."""
        ...

    def mask(self, row: Row) -> None:
        """Give minus infinity to the tokens that may not come next."""
        ...

    def take(self, token: int) -> Part:
        """Go on by a token that does not end the answer.

        Raises:
            EngineError: engine_error: the token was not allowed.
        """
        ...

    def end(self) -> Part:
        """Return what was held back."""
        ...
