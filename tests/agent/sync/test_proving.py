"""How far a proof came: what a restart keeps of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_agent.sync import proving
from sprat_agent.sync.ports import ExecutionError
from sprat_agent.sync.proving import MOST_BEGUN, Proving
from sprat_proto import canonical
from sprat_proto.manifest import Activation
from sprat_proto.probes import Proof, SoakBounds, Traffic

COUNTS = st.integers(0, 1 << 20)
TRAFFIC = st.builds(Traffic, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
PROVING = st.builds(Proving, st.integers(0, MOST_BEGUN), COUNTS, TRAFFIC)


def test_the_first_rate_that_was_known_stays_the_one_to_compare_with() -> None:
    kept = proving.begin(Proving(), 0, "m")
    assert kept == Proving(begun=1)
    kept = proving.begin(kept, 9_000, "m")
    assert proving.begin(kept, 5_000, "m") == Proving(begun=3, before_milli_tps=9_000)


def test_it_is_not_begun_for_ever() -> None:
    kept = Proving()
    for _ in range(MOST_BEGUN):
        kept = proving.begin(kept, 0, "m@1+f16")
    with pytest.raises(ExecutionError, match="m@1"):
        proving.begin(kept, 0, "m@1+f16")


@given(PROVING, st.lists(st.lists(TRAFFIC, min_size=1, max_size=4), max_size=4))
def test_whatever_restarts_there_are_the_same_requests_count(
    kept: Proving, processes: list[list[Traffic]]
) -> None:
    total = kept.traffic
    for slices in processes:
        earlier, here = kept.traffic, Traffic()
        for one in slices:
            here = here.plus(one)
            kept = proving.watched(kept, earlier, here)
            assert kept.begun == 0
            assert canonical.decode(canonical.encode(kept), Proving, "proving") == kept
        total = total.plus(here)
    assert kept.traffic == total


def test_a_rate_that_is_not_known_is_held_against_nobody() -> None:
    bounds = SoakBounds(min_requests=1, min_decode_permille=1000)
    activation = Activation(proof=Proof(soak=bounds))
    slow = Traffic(1, 0, 1, 1, 1_000_000)
    assert proving.breach_of_soak(activation, Proving(traffic=slow)) is None
    assert proving.breach_of_soak(activation, Proving(before_milli_tps=1001, traffic=slow))
