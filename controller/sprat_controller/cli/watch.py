"""Watching a rollout to its end, on a terminal or for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

import msgspec
from rich.console import Group
from rich.live import Live
from rich.text import Text
from sprat_proto import canonical
from sprat_proto.states import ExecutionState, RolloutState

from sprat_controller.cli import policy, strategy
from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError, Exit, UnreachableError
from sprat_controller.cli.output import Row, console, named, say, table, text
from sprat_controller.cli.verbs import Session
from sprat_controller.rollout import abort_said

INTERVAL_S: Final = 1.0
# A controller that restarts is back long before this.
PATIENCE: Final = timedelta(minutes=2)
ENDED: Final = frozenset(
    {
        RolloutState.FINISHED,
        RolloutState.STOPPED,
        RolloutState.ROLLED_BACK,
        RolloutState.APPROVAL_DENIED,
    }
)
COLUMNS: Final = ("device", "state", "step", "variant", "reason")
MAX_DRAWN: Final = 40  # lines that fit on a screen


@dataclass(frozen=True)
class Moment:
    """A rollout and its executions at one time."""

    rollout: Json
    executions: list[Json]

    @property
    def is_over(self) -> bool:
        """Nothing changes any more."""
        return self.rollout.get("state") in ENDED

    @property
    def failures(self) -> list[Json]:
        """Executions that did not succeed."""
        return [one for one in self.executions if one.get("state") != ExecutionState.SUCCEEDED]


class Screen(Protocol):
    """Where a watched rollout is shown."""

    def show(self, moment: Moment) -> None:
        """Show how it stands now."""
        ...


def watch_rollout(session: Session, rollout_id: str, *, timeout_s: int | None) -> None:
    """Show a rollout until it has ended.

    Raises:
        CliError: ROLLOUT_FAILED if it ended and not everything succeeded; TIMEOUT if it goes on.
    """
    begin = session.around.clock()
    end = begin + timedelta(seconds=timeout_s) if timeout_s else None
    with _screen(session) as screen:
        was = None
        for moment in _moments(session, rollout_id):
            screen.show(moment)
            state = moment.rollout.get("state")
            if state == RolloutState.PAUSED and was != state:
                say(
                    f"the rollout {rollout_id} is paused and waits for a person:"
                    f" `sprat rollout show {rollout_id}` says how it stands (still watching)"
                )
            was = state
            if moment.is_over:
                break
            if end is not None and session.around.clock() >= end:
                raise CliError(
                    f"the rollout {rollout_id} is still {state} after {timeout_s} s", Exit.TIMEOUT
                )
            session.around.sleep(INTERVAL_S)
        else:
            raise AssertionError("moments never end by themselves")
    _judge(moment, rollout_id)


def show_rollout(session: Session, found: Json) -> None:
    """Write one rollout."""
    fields = (
        *("id", "name", "model", "release", "alias", "context", "slots", "kv_type", "pinned"),
        *("state", "start_at", "counts", "revision"),
    )
    shown = {name: found.get(name) for name in fields}
    shown |= {
        "policy": policy.shown(found.get("policy")),
        "strategy": strategy.in_words(found.get("strategy")),
        "groups": [_group(one) for one in found.get("groups") or ()],
        "abort": _abort(found.get("abort")),
    }
    overridden: Json = found.get("approval_override") or {}
    if overridden:
        shown["approval"] = overridden.get("said")
    session.output.one(shown, found)


def execution_row(execution: Json) -> Row:
    """Return an execution as a line of `COLUMNS`."""
    reason: Json = execution.get("reason") or {}
    why = f"{reason.get('code')}: {reason.get('message')}" if reason else None
    return [
        named(execution.get("device_id"), simulated=execution.get("simulated")),
        execution.get("state"),
        execution.get("step"),
        execution.get("variant"),
        why,
    ]


def _abort(kept: Json | None) -> str | None:
    """Return in a sentence what held or ended a rollout."""
    try:
        return abort_said.in_words(kept) or None
    except (KeyError, TypeError, msgspec.ValidationError):  # a newer controller says more
        return canonical.encode(kept).decode()


def _group(group: Json) -> str:
    counts: Json = group.get("counts") or {}
    done = counts.get(ExecutionState.SUCCEEDED, 0)
    return f"{group.get('name')} {group.get('state')} {done} of {sum(counts.values())} done"


def _moments(session: Session, rollout_id: str) -> Iterator[Moment]:
    """Yield how the rollout stands, each time it is asked; a controller may be away for a while."""
    away_since = None
    while True:
        try:
            rollout = session.api.get(f"rollouts/{rollout_id}")
            moment = Moment(rollout, list(session.api.pages(f"rollouts/{rollout_id}/executions")))
        except UnreachableError as error:
            now = session.around.clock()
            if away_since is None:
                say(f"{error.message} (waiting for it)")
            away_since = away_since or now
            if now - away_since > PATIENCE:
                raise
            session.around.sleep(INTERVAL_S)
            continue
        away_since = None
        yield moment


def _judge(moment: Moment, rollout_id: str) -> None:
    state = moment.rollout.get("state")
    if state == RolloutState.FINISHED and not moment.failures:
        return
    states = Counter(str(one.get("state")) for one in moment.failures)
    found = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
    raise CliError(
        f"the rollout {rollout_id} is {state}: of {len(moment.executions)} devices"
        f" {found or 'none was left to do'}; `sprat rollout show {rollout_id}` says why",
        Exit.ROLLOUT_FAILED,
    )


@contextmanager
def _screen(session: Session) -> Generator[Screen]:
    if not session.output.is_live:
        yield _Lines(session)
        return
    with Live(console=console(), auto_refresh=False) as live:
        yield _Drawing(live)


class _Drawing:
    """One picture, drawn anew."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, moment: Moment) -> None:
        states = Counter(str(one.get("state")) for one in moment.executions)
        counts = "  ".join(f"{name} {count}" for name, count in sorted(states.items()))
        rollout = moment.rollout
        head = f"{rollout.get('model')}@{rollout.get('release')}  {rollout.get('state')}  {counts}"
        # What is wrong or under way matters more than what is done.
        shown = sorted(moment.executions, key=lambda one: one.get("state") == "SUCCEEDED")
        rows = [execution_row(one) for one in shown[:MAX_DRAWN]]
        more = len(shown) - len(rows)
        foot = [Text(f"... and {more} more")] if more else []
        self._live.update(Group(Text(text(head)), table(COLUMNS, rows), *foot), refresh=True)


@dataclass
class _Lines:
    """One line of JSON for each change."""

    session: Session
    seen: dict[str, Json] = field(default_factory=dict[str, Json])

    def show(self, moment: Moment) -> None:
        rollout_id = moment.rollout.get("id")
        state: Json = {"rollout_id": rollout_id, "state": moment.rollout.get("state")}
        self._tell("", {**state, "counts": moment.rollout.get("counts")})
        fields = ("device_id", "simulated", "state", "step", "variant", "reason")
        for one in moment.executions:
            line = {"rollout_id": rollout_id, **{name: one.get(name) for name in fields}}
            self._tell(str(one.get("device_id")), line)

    def _tell(self, what: str, line: Json) -> None:
        if self.seen.get(what) != line:
            self.seen[what] = line
            self.session.output.json_line(line)
