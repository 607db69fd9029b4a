"""What an assignment would make different, and so must be approved."""

from __future__ import annotations

import msgspec
from simulators.signed import assigned, release
from sprat_agent.sync.changes import changes
from sprat_agent.sync.plan import Committed
from sprat_proto.approval import Change
from sprat_proto.assignment import ServingTerms, Windows
from sprat_proto.policy import FitPolicy
from sprat_proto.windows import WindowSpec

ONE = release()
TERMS = ServingTerms(slots=2, kv_type="q8_0", is_pinned=True)


def test_another_way_to_be_served_is_a_change() -> None:
    committed = {"assistant": Committed(ONE.wanted("e1"), 256)}
    same = assigned(2, [ONE.wanted("e1")])
    assert changes(same, committed, frozenset({"e1"})) == ()
    other = assigned(2, [ONE.wanted("e1", terms=TERMS)])
    change = Change("assistant", ONE.digest, 256, terms=TERMS)
    # Also under an execution that is known: the plan could not have said so when it was begun.
    for known in (frozenset[str](), frozenset({"e1"})):
        assert changes(other, committed, known) == (change,)


def test_another_policy_is_a_change() -> None:
    asked = FitPolicy(max_memory_bytes=1 << 30)
    wanted = msgspec.structs.replace(ONE.wanted("e1"), policy=asked)
    committed = {"assistant": Committed(ONE.wanted("e1"), 256)}
    change = Change("assistant", ONE.digest, 256, policy=asked)
    assert changes(assigned(2, [wanted]), committed, frozenset({"e1"})) == (change,)
    now = {"assistant": Committed(wanted, 256)}
    assert changes(assigned(3, [wanted]), now, frozenset()) == ()


def test_windows_are_part_of_a_change_and_are_none_of_their_own() -> None:
    night = Windows(activate=WindowSpec(cron="0 2 * * *", duration_s=3600, zone="UTC"))
    wanted = ONE.wanted("e1", windows=night)
    change = Change("assistant", ONE.digest, 256, windows=night)
    assert changes(assigned(2, [wanted]), {}, frozenset()) == (change,)
    committed = {"assistant": Committed(ONE.wanted("e0"), 256)}
    assert changes(assigned(2, [wanted]), committed, frozenset()) == ()


def test_a_model_that_goes_on_as_it_was_is_none() -> None:
    committed = {"assistant": Committed(ONE.wanted("e1", terms=TERMS), 256)}
    assert changes(assigned(2, [ONE.wanted("e2", terms=TERMS)]), committed, frozenset()) == ()
