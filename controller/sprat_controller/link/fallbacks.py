"""Silent fallbacks: a device that runs something else without having said so. Pure.

What a device is known to run under an alias is *accounted for* by what explains it: an execution
that ended with it, or its being what is desired. A device whose heartbeat names another digest,
while no report of it is on its way, has gone back by itself and said nothing: crashes that sent it
to the release before, a hand in its files. An alias under which nothing runs
is none of these: the model is being loaded, or broken, which its own events say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

# By alias: {"expected", "found": digests, "at": when it was noticed}.
FallbackJson: TypeAlias = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Fallback:
    """A device that runs `found` under `alias`, where `expected` was accounted for."""

    alias: str
    expected: str
    found: str


@dataclass(frozen=True)
class Ended:
    """The end of an execution, as its device reports it.

    Attributes:
        alias: What it was for.
        digest: What it was to bring.
        running: What answers now; empty: nothing.
        is_success: It says that `running` was proved.
    """

    alias: str
    digest: str
    running: str
    is_success: bool


@dataclass(frozen=True)
class Account:
    """How what runs on a device stands to what explains it.

    Attributes:
        accounted: Digest by alias, as it was explained last.
        fallbacks: Those that last.
        news: Those that were not known before.
        mended: Aliases whose fallback is over.
    """

    accounted: Mapping[str, str]
    fallbacks: FallbackJson
    news: tuple[Fallback, ...] = ()
    mended: tuple[str, ...] = ()


@dataclass
class _Books:
    accounted: dict[str, str]
    fallbacks: FallbackJson
    news: list[Fallback] = field(default_factory=list[Fallback])
    mended: list[str] = field(default_factory=list[str])


def settle(
    before: Account, running: Mapping[str, str], desired: Mapping[str, str], now: datetime
) -> Account:
    """Return the account after a heartbeat of a device whose every report was taken in.

    Args:
        before: As it was kept; `news` and `mended` do not count.
        running: Digest by alias that the device says it runs.
        desired: Digest by alias that it should run, or is on its way to.
        now: The caller's clock.
    """
    books = _Books(dict(before.accounted), dict(before.fallbacks))
    for alias in set(books.accounted) - set(running) - set(desired):
        _close(books, alias)
        del books.accounted[alias]
    for alias, found in sorted(running.items()):
        expected = books.accounted.get(alias)
        if expected is None or found in (expected, desired.get(alias)):
            books.accounted[alias] = found
            _close(books, alias)
        elif books.fallbacks.get(alias, {}).get("found") != found:
            books.news.append(Fallback(alias, expected, found))
            books.fallbacks[alias] = {
                "expected": expected,
                "found": found,
                "at": now.isoformat(timespec="milliseconds"),
            }
    return Account(books.accounted, books.fallbacks, tuple(books.news), tuple(books.mended))


def explain(before: Account, ended: Ended) -> Account:
    """Return the account after a report that an execution ended.

    Without success it explains only how the device came back from what it had brought.
    """
    alias, running = ended.alias, ended.running
    books = _Books(dict(before.accounted), dict(before.fallbacks))
    if not ended.is_success and books.accounted.get(alias) not in (None, ended.digest):
        return Account(books.accounted, books.fallbacks)
    if running:
        books.accounted[alias] = running
    else:
        books.accounted.pop(alias, None)
    _close(books, alias)
    return Account(books.accounted, books.fallbacks, mended=tuple(books.mended))


def _close(books: _Books, alias: str) -> None:
    if books.fallbacks.pop(alias, None) is not None:
        books.mended.append(alias)
