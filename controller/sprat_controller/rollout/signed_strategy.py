"""The strategy as approvers sign it: by the digest of its canonical document. Pure.

The document is the frozen strategy as a whole, with what is as by default too, in the spelling of
RFC 8785. What a specification says in the clear (how many at once, windows, the end) is what
devices hold themselves to. Where nothing else is asked there is no digest, so that agents from
before there was one still read the specification: it stands for exactly that strategy then.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, UnsetType
from sprat_proto import canonical
from sprat_proto.approval import RolloutSpec
from sprat_proto.assignment import windows_of

from sprat_controller.rollout import frozen_strategy, timing
from sprat_controller.rollout.plan import Proceeding
from sprat_controller.rollout.strategy import Pace, Strategy

MAX_BYTES: Final = 1 << 20
_LEAST_EXPONENT: Final = -6  # below it RFC 8785 writes numbers with an exponent


class NotSignedError(ValueError):
    """A strategy is not the one that a specification binds."""


def document(strategy: Strategy) -> bytes:
    """Return the canonical bytes of a strategy."""
    return canonical.encode(_spelled(frozen_strategy.to_json(strategy)))


def digest_of(strategy: Strategy) -> str | UnsetType:
    """Return what a specification says of how its rollout proceeds; unset: all is in the clear."""
    if strategy == _clear(strategy):
        return UNSET
    return canonical.sha256_hex(document(strategy))


def proceeding(strategy: Strategy) -> Proceeding:
    """Return what of a strategy a device has to understand."""
    return Proceeding(timing.windows_of(strategy), not isinstance(digest_of(strategy), UnsetType))


def why_not(spec: RolloutSpec, strategy: Strategy) -> str | None:
    """Return why a specification does not bind this strategy, in words; None if it does."""
    expected, found = digest_of(strategy), spec.strategy_sha256
    if found != expected:
        return (
            f"expected the strategy's digest {_shown(expected)} in the specification, found"
            f" {_shown(found)}"
        )
    told = timing.windows_of(strategy)
    if windows_of(spec.windows) != told or spec.max_in_progress != strategy.pace.max_in_progress:
        return "expected the strategy's windows, end and pace in the specification, found others"
    return None


def read(spec: RolloutSpec, shown: str) -> Strategy:
    """Return the strategy of a document that somebody shows beside a specification.

    Raises:
        NotSignedError: It is no strategy in its canonical spelling, or not the one that is bound.
    """
    try:
        strategy = msgspec.json.decode(shown.encode(), type=Strategy)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise NotSignedError(f"expected a strategy, found another document: {error}") from error
    if document(strategy) != shown.encode():
        raise NotSignedError("expected a strategy in canonical JSON, found another spelling")
    fault = why_not(spec, strategy)
    if fault is not None:
        raise NotSignedError(fault)
    return strategy


def _clear(strategy: Strategy) -> Strategy:
    """Return the strategy that asks no more than what a specification says in the clear."""
    return Strategy(
        pace=Pace(max_in_progress=strategy.pace.max_in_progress),
        download_window=strategy.download_window,
        activate_window=strategy.activate_window,
        ends_at=strategy.ends_at,
    )


def _spelled(value: object) -> object:
    match value:
        case dict():
            said = cast("dict[str, Any]", value)
            return {name: _spelled(one) for name, one in said.items()}
        case list():
            return [_spelled(one) for one in cast("list[Any]", value)]
        case float():
            return msgspec.Raw(_number(value))
        case _:
            return value


def _number(value: float) -> bytes:
    """Return a finite number that is not negative as ECMAScript, and so RFC 8785, spells it.

    Both write the fewest digits that are read as the same number; they put the point elsewhere.
    """
    if value == int(value):
        return str(int(value)).encode()
    _, digits, exponent = Decimal(repr(value)).as_tuple()
    point = len(digits) + cast("int", exponent)
    said = "".join(map(str, digits)).rstrip("0")
    if point <= _LEAST_EXPONENT:
        tail = f".{said[1:]}" if said[1:] else ""
        return f"{said[0]}{tail}e{point - 1}".encode()
    if point <= 0:
        return f"0.{'0' * -point}{said}".encode()
    return f"{said[:point]}.{said[point:]}".encode()


def _shown(digest: str | UnsetType) -> str:
    return "none" if isinstance(digest, UnsetType) else digest[:12]
