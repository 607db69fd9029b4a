"""What an application asked of a model, and which records that leads to. Pure.

A record says who asked which model, how that ended and what it took; never a word of what was said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sprat_proto.audit_events import Tag

from sprat_agent.audit.sums import Addend

NO_MODEL: Final = "none"  # names that clients make up are in no record: they may say anything


class Outcome(StrEnum):
    """How a request to a model ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    CANCELED = "canceled"  # the application went away


_TAGS: Final[Mapping[Outcome, Tag]] = {
    Outcome.ANSWERED: Tag.INFERENCE_ANSWERED,
    Outcome.FAILED: Tag.INFERENCE_FAILED,
    Outcome.CANCELED: Tag.INFERENCE_CANCELED,
}


@dataclass(frozen=True)
class Inference:
    """One request to a model, at its end.

    Attributes:
        model: `model@release+variant`, or "none": no model of this device was asked for.
        alias: What it answers under; "" where there is none.
        digest: Of its manifest, hex SHA-256; "" where there is none.
        adapter: That answered, or was to; "" is none.
        caller: Who asked: see `api.asking.caller_of`.
        dialect: How: openai, ollama or anthropic.
        operation: What for: chat, text_completion or embeddings.
        outcome: How it ended.
        reason: Why there is no whole answer, in a word; "" where there is one.
        finish: Why the answer ended: stop, length or tool_calls; "" where it did not.
        tokens_in: Of the prompt; None: nobody told.
        tokens_out: Of the answer; None: nobody told.
        ttft_ms: From the arrival to the first of the answer; None: there was none.
        ms: From the arrival to the end.
    """

    model: str
    alias: str
    digest: str
    adapter: str
    caller: str
    dialect: str
    operation: str
    outcome: Outcome
    reason: str = ""
    finish: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    ttft_ms: int | None = None
    ms: int = 0


@dataclass(frozen=True)
class Alone:
    """A record of its own."""

    tag: str
    subject: str
    detail: Mapping[str, object] = field(default_factory=dict[str, object])


def decide(
    one_in: int, draw: float, one: Inference, content: Mapping[str, object] | None = None
) -> Alone | Addend:
    """Return the record that a request leads to, or what it adds to the sum of its hour.

    Args:
        one_in: One of so many has a record of its own, the others are summed up; 0: all are.
        draw: From 0 to below 1, by chance.
        one: The request.
        content: What a policy lets a record of its own have of what was said.
    """
    if one_in == 1 or draw * one_in < 1 <= one_in:
        return Alone(_TAGS[one.outcome], one.model, _said({**_detail(one), **(content or {})}))
    return _summed(one)


def _summed(one: Inference) -> Addend:
    names = {
        "digest": one.digest,
        "adapter": one.adapter,
        "caller": one.caller,
        "outcome": one.outcome.value,
        "reason": one.reason,
    }
    amounts = {"ms": one.ms, "tokens_in": one.tokens_in or 0, "tokens_out": one.tokens_out or 0}
    heights = {"ms_max": one.ms}
    if one.ttft_ms is not None:
        amounts |= {"ttft_ms": one.ttft_ms, "ttft_count": 1}
        heights["ttft_ms_max"] = one.ttft_ms
    said = {name: value for name, value in names.items() if value}
    return Addend(Tag.INFERENCE_SUMMED, one.model, said, amounts, heights)


def _detail(one: Inference) -> dict[str, object]:
    return {
        "alias": one.alias,
        "digest": one.digest,
        "adapter": one.adapter,
        "caller": one.caller,
        "dialect": one.dialect,
        "operation": one.operation,
        "reason": one.reason,
        "finish": one.finish,
        "tokens_in": one.tokens_in,
        "tokens_out": one.tokens_out,
        "ttft_ms": one.ttft_ms,
        "ms": one.ms,
    }


def _said(detail: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in detail.items() if value not in (None, "")}
