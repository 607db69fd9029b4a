"""What requests say in every dialect, by the same bounds, and how they steer the choice of tokens.

A field whose bounds differ between dialects is declared where its dialect is. Pure.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from sprat_agent.runtime.wire import Sampling

MAX_SEED: Final = (1 << 63) - 1
MAX_TOP_LOGPROBS: Final = 20

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]  # of a model
TokenCount: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 24)]
Stop: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
TopK: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 20)]  # 0: all
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]  # of probability
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
RepeatPenalty: TypeAlias = Annotated[float, Meta(gt=0, le=2)]
Seed: TypeAlias = Annotated[int, Meta(ge=-(1 << 63), le=MAX_SEED)]
TopLogprobs: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)]


def chosen_by(**given: object) -> Sampling:
    """Return how tokens are chosen: by the fields of `Sampling` that are given and not None."""
    return msgspec.structs.replace(
        Sampling(), **{name: value for name, value in given.items() if value is not None}
    )
