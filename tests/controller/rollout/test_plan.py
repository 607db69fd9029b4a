from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.controlled import BIG, SMALL, TINY, WEIGHTS, a_manifest
from sprat_controller.rollout.plan import (
    Action,
    Bound,
    DeviceFacts,
    Proceeding,
    plan_device,
    verdict_json,
)
from sprat_proto import fit
from sprat_proto.assignment import ServingTerms, Windows
from sprat_proto.fit import MIB
from sprat_proto.manifest import Evaluation
from sprat_proto.policy import Aim, FitPolicy
from sprat_proto.rates import Basis, Rates
from sprat_proto.states import ReasonCode

PROFILE = fit.Profile(
    arch="x86_64",
    cores=4,
    cpu_features=("avx2",),
    memory_bytes=2 * BIG,
    memory_budget_bytes=BIG,
    disk_free_bytes=4000 * MIB,
    accelerators=(),
    os="linux",
    simulated=True,
    runtimes=("llama.cpp",),
)


def candidate(variant: str) -> fit.Candidate:
    made = a_manifest(variant, WEIGHTS[variant], model="talk", release="1.0.0", counter=1)
    digest = ("8" if variant == "q8_0" else "4") * 64
    hardware = tuple(made.hardware_ids)
    return fit.Candidate(variant, digest, made.runtime, hardware, made.disk_needed, made.facts)


CANDIDATES = [candidate("q4_0"), candidate("q8_0")]
Q8, Q4 = "8" * 64, "4" * 64


def device(budget: int = BIG, disk: int = 4000 * MIB, **facts: object) -> DeviceFacts:
    profile = replace(PROFILE, memory_budget_bytes=budget, disk_free_bytes=disk)
    return replace(DeviceFacts("gw-1", profile, "abc"), **facts)


def test_the_best_variant_that_fits_is_installed() -> None:
    assert plan_device(device(BIG), CANDIDATES, 256).variant == "q8_0"
    small = plan_device(device(SMALL), CANDIDATES, 256)
    assert (small.action, small.variant) == (Action.INSTALL, "q4_0")
    assert [one.code for one in small.verdicts] == [ReasonCode.INSUFFICIENT_MEMORY, None]
    assert small.simulated


def test_a_device_that_carries_nothing_is_rejected_with_every_verdict() -> None:
    line = plan_device(device(TINY), CANDIDATES, 256)
    assert (line.action, line.variant, line.digest) == (Action.REJECTED, None, None)
    assert line.reason is not None
    assert line.reason.code == ReasonCode.NO_VARIANT_FITS
    assert "needs" in line.reason.message
    assert len(line.verdicts) == len(CANDIDATES)


def test_a_device_without_a_profile_is_rejected() -> None:
    line = plan_device(DeviceFacts("new-1", None), CANDIDATES, 256)
    assert line.action is Action.REJECTED
    assert line.reason is not None
    assert line.reason.code == ReasonCode.NO_PROFILE
    assert "new-1" in line.reason.message


def test_a_device_that_proved_and_runs_the_variant_has_nothing_to_do() -> None:
    settled = device(desired=Bound(Q8, 256, is_open=False), running_digest=Q8)
    line = plan_device(settled, CANDIDATES, 256)
    assert line.action is Action.NONE
    assert line.reason is not None
    assert line.reason.message == "already runs this variant"
    assert line.digest == Q8


def test_anything_less_than_proved_running_and_bound_is_installed() -> None:
    bound = Bound(Q8, 256, is_open=False)
    for facts in (
        device(desired=bound),  # assigned, not running
        device(running_digest=Q8),  # running, not assigned
        device(desired=replace(bound, is_open=True), running_digest=Q8),  # not proved yet
        device(desired=Bound(Q4, 256, is_open=False), running_digest=Q8),  # on its way elsewhere
        device(desired=replace(bound, context=512), running_digest=Q8),  # other context
    ):
        assert plan_device(facts, CANDIDATES, 256).action is Action.INSTALL


def test_another_way_to_be_served_is_installed() -> None:
    bound = Bound(Q8, 256, is_open=False, terms=ServingTerms(slots=2))
    settled = device(desired=bound, running_digest=Q8)
    assert plan_device(settled, CANDIDATES, 256, bound.terms).action is Action.NONE
    assert plan_device(settled, CANDIDATES, 256).action is Action.INSTALL


def test_each_slot_takes_memory_and_a_smaller_kv_type_takes_less() -> None:
    chosen = CANDIDATES[0]
    budget = fit.need(chosen, 256, slots=4, kv_type="q8_0").memory

    def variant(**terms: Any) -> str | None:
        line = plan_device(device(budget), [chosen], 256, ServingTerms(**terms))
        return line.variant

    assert variant(slots=4, kv_type="q8_0") == chosen.variant
    assert variant(slots=5, kv_type="q8_0") is None
    assert variant(slots=4) is None
    assert variant() == chosen.variant


def test_an_agent_that_does_not_understand_the_terms_is_rejected_with_a_reason() -> None:
    old = device(capability=2)
    assert plan_device(old, CANDIDATES, 256).action is Action.INSTALL
    line = plan_device(old, CANDIDATES, 256, ServingTerms(is_pinned=True))
    assert line.action is Action.REJECTED
    assert line.reason is not None
    assert (line.reason.code, line.reason.found) == ("AGENT_TOO_OLD", "capability 2")


def test_a_policy_chooses_and_refuses() -> None:
    def decided(policy: FitPolicy, **facts: Any) -> tuple[str | None, list[str | None]]:
        line = plan_device(device(**facts), CANDIDATES, 256, policy=policy)
        return line.variant, [one.code for one in line.verdicts]

    assert decided(FitPolicy()) == ("q8_0", [None, "LOWER_QUALITY"])
    assert decided(FitPolicy(aim=Aim.SMALLEST)) == ("q4_0", [None, "LARGER"])
    slow = FitPolicy(min_decode_milli_tps=10_000)
    assert decided(slow) == (None, ["RATE_UNKNOWN", "RATE_UNKNOWN"])
    observed = {Q8: Rates(Basis.OBSERVED, 9000), Q4: Rates(Basis.OBSERVED, 12_000)}
    assert decided(slow, observed=observed) == ("q4_0", ["TOO_SLOW", None])


def test_another_policy_is_installed_since_the_device_is_to_hold_the_variant_to_it() -> None:
    asked = FitPolicy(max_memory_bytes=BIG)
    bound = Bound(Q8, 256, is_open=False, policy=asked)
    settled = device(desired=bound, running_digest=Q8)
    assert plan_device(settled, CANDIDATES, 256, policy=asked).action is Action.NONE
    for other in (None, FitPolicy()):
        assert plan_device(settled, CANDIDATES, 256, policy=other).action is Action.INSTALL


def test_an_agent_that_does_not_understand_a_policy_is_rejected_with_a_reason() -> None:
    old = device(capability=3)
    assert plan_device(old, CANDIDATES, 256).action is Action.INSTALL
    # One that asks for nothing takes the place of the release's own: it is said, too.
    for asked in (FitPolicy(), FitPolicy(aim=Aim.SMALLEST)):
        line = plan_device(old, CANDIDATES, 256, ServingTerms(slots=2), asked)
        assert line.action is Action.REJECTED
        assert line.reason is not None
        assert (line.reason.code, line.reason.found) == ("AGENT_TOO_OLD", "capability 3")
        assert line.reason.expected == "capability 4 or higher"
        assert "a policy of fit" in line.reason.message


def test_an_agent_that_cannot_read_a_release_is_rejected_with_a_reason() -> None:
    proved = [replace(one, needs=5) for one in CANDIDATES]
    line = plan_device(device(capability=4), proved, 256)
    assert line.action is Action.REJECTED
    assert line.reason is not None
    assert (line.reason.code, line.reason.found) == ("AGENT_TOO_OLD", "capability 4")
    assert line.reason.expected == "capability 5 or higher"
    assert "what the release holds it to" in line.reason.message
    assert plan_device(device(capability=5), proved, 256).action is Action.INSTALL


def test_an_agent_that_does_not_understand_windows_is_rejected_with_a_reason() -> None:
    old = device(capability=4)
    assert plan_device(old, CANDIDATES, 256).action is Action.INSTALL
    line = plan_device(old, CANDIDATES, 256, proceeding=Proceeding(Windows(deadline=9)))
    assert line.action is Action.REJECTED
    assert line.reason is not None
    assert (line.reason.code, line.reason.found) == ("AGENT_TOO_OLD", "capability 4")
    assert line.reason.expected == "capability 5 or higher"
    assert "windows or a deadline" in line.reason.message
    new = device(capability=5)
    told = Proceeding(Windows(deadline=9))
    assert plan_device(new, CANDIDATES, 256, proceeding=told).action is Action.INSTALL


def test_an_agent_that_cannot_read_an_approval_of_a_strategy_is_rejected_with_a_reason() -> None:
    bound = Proceeding(is_bound=True)
    old = device(capability=6)
    # Only where its group has it check approvals itself does it read them.
    assert plan_device(old, CANDIDATES, 256, proceeding=bound).action is Action.INSTALL
    checks = replace(old, enforces_approval=True)
    assert plan_device(checks, CANDIDATES, 256).action is Action.INSTALL
    line = plan_device(checks, CANDIDATES, 256, proceeding=bound)
    assert line.action is Action.REJECTED
    assert line.reason is not None
    assert (line.reason.code, line.reason.found) == ("AGENT_TOO_OLD", "capability 6")
    assert line.reason.expected == "capability 7 or higher"
    assert "an approval of a strategy" in line.reason.message
    new = replace(checks, capability=7)
    assert plan_device(new, CANDIDATES, 256, proceeding=bound).action is Action.INSTALL


def test_of_variants_that_are_all_refused_the_smallest_says_why() -> None:
    line = plan_device(device(), CANDIDATES, 256, policy=FitPolicy(licences=("MIT",)))
    assert line.reason is not None
    assert line.reason.message.startswith("none of 2 variants fits: q4_0 has the licence ")


def test_memory_of_other_aliases_is_not_free() -> None:
    line = plan_device(device(BIG, reserved_bytes=BIG - SMALL), CANDIDATES, 256)
    assert line.variant == "q4_0"
    none = plan_device(device(BIG, reserved_bytes=BIG), CANDIDATES, 256)
    assert none.reason is not None
    assert "held by the device's other aliases" in none.reason.message


def test_what_runs_already_needs_no_more_disk() -> None:
    full = device(disk=100 * MIB)
    assert plan_device(full, CANDIDATES, 256).action is Action.REJECTED
    assert plan_device(replace(full, running_digest=Q8), CANDIDATES, 256).variant == "q8_0"


def test_a_verdict_says_its_numbers() -> None:
    verdict = verdict_json(plan_device(device(SMALL), CANDIDATES, 256).verdicts[0])
    assert verdict["code"] == "INSUFFICIENT_MEMORY"
    assert verdict["fits"] is False
    need = verdict["need"]
    parts = ("weights", "kv", "compute", "worker")
    assert need["memory"] == sum(need[part] for part in parts) > SMALL
    assert verdict["rates"] == {"basis": "unknown", "decode_tps": None, "prefill_tps": None}
    assert (verdict["ttft_ms"], verdict["loss_percent"]) == (None, None)


def test_a_verdict_says_rates_and_loss_as_people_do() -> None:
    said = Evaluation("f16", "7" * 64, 1000, 12_000, 1, 1, 21_000)
    known = [replace(one, evaluation=said) for one in CANDIDATES]
    seen = {Q8: Rates(Basis.OBSERVED, 12_500, 100_000)}
    verdicts = plan_device(device(observed=seen), known, 256).verdicts
    (verdict,) = (verdict_json(one) for one in verdicts if one.digest == Q8)
    assert verdict["rates"] == {"basis": "observed", "decode_tps": 12.5, "prefill_tps": 100.0}
    assert verdict["ttft_ms"] == 2560 + 80
    assert verdict["loss_percent"] == 2.1


@given(st.integers(0, 2 * BIG), st.integers(0, BIG), st.integers(64, 512))
def test_a_chosen_variant_always_fits_what_is_free(budget: int, held: int, context: int) -> None:
    line = plan_device(device(budget, reserved_bytes=held), CANDIDATES, context)
    if line.digest is None:
        assert line.action is Action.REJECTED
        return
    chosen = next(one for one in CANDIDATES if one.digest == line.digest)
    assert fit.need(chosen, context).memory + held <= budget
