"""What it costs to decide who may do what, with 10,000 bindings in force.

A decision is timed as a request makes it: by an actor with a token that takes away, of a device.
The bindings are over scopes all different, so that none is read once for many. Times are those of
the processor: what else the machine does takes nothing of them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from figure import Figure
from sprat_controller.access import scopes
from sprat_controller.access.actor import Actor, Cap
from sprat_controller.access.policy import Binding, Permission, Policy, Role
from sprat_controller.fleet.filters.fields import Facts

BINDINGS = 10_000
SUBJECTS = 1_000
DECISIONS = 50_000
BOUND_US = 50.0
MAKE_BOUND_MS = 250.0
FIRST_BOUND_MS = 5.0
# What one subject has is put together at the first question after a change.
FIRST_OF_ONE_BOUND_MS = 2_500.0
ROLES = (Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.AUDITOR)


def figures() -> Iterator[Figure]:
    """Measure making the policy, and deciding by it."""
    bindings = [
        Binding(
            f"user:{number % SUBJECTS}",
            ROLES[number // SUBJECTS % len(ROLES)],
            f"site = site-{number} or label.ring = ring-{number}",
        )
        for number in range(BINDINGS)
    ]
    begun = time.thread_time()
    policy = Policy(bindings)
    made_ms = (time.thread_time() - begun) * 1e3
    yield Figure("access_policy_made 10,000 bindings", made_ms, "ms", MAKE_BOUND_MS)
    yield from _decided(policy)
    yield from _decided_for_one()


def _decided_for_one() -> Iterator[Figure]:
    """Have one subject hold all bindings: what a decision costs does not grow with them."""
    policy = Policy(
        Binding("user:0", Role.VIEWER, f"site = site-{number} or label.ring = ring-{number}")
        for number in range(BINDINGS)
    )
    actor = Actor("user:0", policy)
    first_ms = _timed(actor, Facts("d", {"site": "none"})) / 1e6
    took = sorted(
        _timed(actor, Facts("d", {"site": f"site-{number}"})) for number in range(2 * BINDINGS)
    )
    p99 = took[int(len(took) * 0.99)] / 1e3
    yield Figure("access_first_decision all of a subject", first_ms, "ms", FIRST_OF_ONE_BOUND_MS)
    yield Figure("access_decision_p99 all of a subject", p99, "us", BOUND_US)


def _decided(policy: Policy) -> Iterator[Figure]:
    """Ask at random, with a seed: half is of a device in scope, half of one that is in none."""
    rng = random.Random(7)  # noqa: S311 - which decisions are asked, no secret
    cap = Cap(Role.ADMIN, scopes.read("site != nowhere"))
    actors = [Actor(f"user:{number}", policy, cap=cap) for number in range(SUBJECTS)]
    firsts = [_timed(actor, Facts("d", {"site": "none"})) for actor in actors]
    took: list[int] = []
    allowed = 0
    for _ in range(DECISIONS):
        number = rng.randrange(SUBJECTS)
        site = f"site-{number + SUBJECTS * rng.randrange(2 * BINDINGS // SUBJECTS)}"
        begun = time.thread_time_ns()
        decision = actors[number].decide(Permission.READ_FLEET, Facts("d", {"site": site}))
        took.append(time.thread_time_ns() - begun)
        allowed += decision.allowed
    took.sort()
    p50, p99 = (took[int(len(took) * share)] / 1e3 for share in (0.5, 0.99))
    detail: dict[str, object] = {
        "p50": round(p50, 2),
        "max": round(took[-1] / 1e3, 1),
        "decisions": DECISIONS,
        "allowed": allowed,
    }
    first_ms = sorted(firsts)[len(firsts) // 2] / 1e6
    yield Figure("access_first_decision 10 bindings of a subject", first_ms, "ms", FIRST_BOUND_MS)
    yield Figure("access_decision_p50 10,000 bindings", p50, "us", BOUND_US)
    yield Figure("access_decision_p99 10,000 bindings", p99, "us", BOUND_US, detail=detail)


def _timed(actor: Actor, device: Facts) -> int:
    """Return the nanoseconds of a decision; a subject's first puts together what it has."""
    begun = time.thread_time_ns()
    actor.decide(Permission.READ_FLEET, device)
    return time.thread_time_ns() - begun
