"""Sending a release and announcing it, past other publishers and a network that comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sprat_controller.cli.client import Api, Json
from sprat_controller.cli.exits import CliError, Exit, NotFoundError, UnreachableError
from sprat_controller.cli.output import say
from sprat_controller.publisher.manifests import BuiltVariant, ReleaseTerms

ATTEMPTS: Final = 6
PAUSE_S: Final = 5.0  # doubled each time: two and a half minutes in all
# Who publishes meanwhile may win; then the counter or the metadata's version is taken anew.
_OVERTAKEN: Final = frozenset({"counter", "versions"})


@dataclass(frozen=True)
class Sent:
    """A release as it was signed."""

    terms: ReleaseTerms
    variants: Sequence[BuiltVariant]


def announce(
    api: Api,
    made: Sent,
    counter: int | None,
    send: Callable[[Sequence[BuiltVariant], ReleaseTerms], None],
    sleep: Callable[[float], None],
) -> Sent:
    """Send a release until it is published; return it with the counter that it got.

    Args:
        api: The controller.
        made: The release, with any counter.
        counter: The one it must have; None is the one that follows when it is sent.
        send: Uploads what is not there yet, signs and publishes.
        sleep: Waits so many seconds.

    Raises:
        CliError: It is refused, there is another release of that name, or the controller is away
            for longer than some minutes.
    """
    sent: Sent | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if sent is not None and _is_published(api, sent):
                return sent  # only the answer was lost
            sent = _numbered(api, made, counter)
            send(sent.variants, sent.terms)
        except UnreachableError as error:
            if attempt == ATTEMPTS:
                raise
            say(f"{error.message}; trying again")
            sleep(PAUSE_S * 2 ** (attempt - 1))
        except CliError as error:
            if error.check not in _OVERTAKEN or attempt == ATTEMPTS:
                raise
        else:
            return sent
    raise AssertionError("the last attempt returns or raises")


def next_counter(api: Api, model: str, release: str) -> int:
    """Return one more than the highest counter of the model's releases.

    Raises:
        CliError: The release is published already.
    """
    try:
        releases: list[Json] = api.get(f"models/{model}").get("releases") or []
    except NotFoundError:
        return 1
    if any(one.get("release") == release for one in releases):
        raise CliError(
            f"{model}@{release} is published already, and a release never changes: choose the next"
            " version",
            Exit.CONFLICT,
        )
    return 1 + max((int(release["counter"]) for release in releases), default=0)


def _numbered(api: Api, made: Sent, counter: int | None) -> Sent:
    found = counter or next_counter(api, made.terms.model, made.terms.release)
    return Sent(
        replace(made.terms, counter=found), [one.with_counter(found) for one in made.variants]
    )


def _is_published(api: Api, sent: Sent) -> bool:
    try:
        found = api.get(f"models/{sent.terms.model}/releases/{sent.terms.release}")
    except NotFoundError:
        return False
    listed: list[Json] = found.get("variants") or []
    return {one.get("digest") for one in listed} == {one.digest for one in sent.variants}
