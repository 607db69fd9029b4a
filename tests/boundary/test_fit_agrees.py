"""A device and its controller come to the same verdict on the same facts, however they travelled.

The device judges with its own profile and the manifest that it verified; the controller with what
the device told, through protobuf and its database, and the manifest that was published.
"""

from __future__ import annotations

import dataclasses
import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from simulators import fit_cases
from simulators.boards import BOARDS
from simulators.fit_cases import UNTIMED
from simulators.shapes import PHI4_MINI, QWEN3_06B, variants
from sprat_agent.sync.voice import hardware
from sprat_controller.link.inbound import profile_of
from sprat_controller.rollout import fit_policy
from sprat_controller.rollout import hardware as stored
from sprat_proto import assignment, canonical, fit
from sprat_proto.fit import Candidate, Profile, Terms
from sprat_proto.manifest import Evaluation, Facts
from sprat_proto.policy import FitPolicy
from sprat_proto.v1.link_pb2 import HardwareProfile


def told(profile: Profile) -> Profile | None:
    """Return a profile as the controller has it from its database; None: it refused it."""
    wire = HardwareProfile.FromString(hardware(profile).SerializeToString())
    found = profile_of(wire)
    return (
        None if found is None else stored.from_json(json.loads(json.dumps(stored.to_json(found))))
    )


def published(one: Candidate) -> Candidate:
    """Return a variant by the parts of its manifest as they are signed and read again."""
    evaluation = one.evaluation and canonical.decode(
        canonical.encode(one.evaluation), Evaluation, "evaluation"
    )
    return dataclasses.replace(
        one,
        facts=canonical.decode(canonical.encode(one.facts), Facts, "facts"),
        evaluation=evaluation,
        policy=canonical.decode(canonical.encode(one.policy), FitPolicy, "policy"),
    )


def planned(policy: FitPolicy | None) -> FitPolicy | None:
    """Return a rollout's policy as the device has it: out of a row, through an assignment."""
    row = json.loads(json.dumps(fit_policy.to_json(policy)))
    said = assignment.spelled_policy(fit_policy.from_json(row))
    return assignment.policy_of(
        said
        if isinstance(said, msgspec.UnsetType)
        else msgspec.convert(json.loads(canonical.encode(said)), FitPolicy)
    )


def test_the_boards_are_told_as_they_are() -> None:
    for profile in BOARDS.values():
        assert told(profile) == profile


def test_both_sides_choose_the_same_on_all_boards() -> None:
    for shape in (QWEN3_06B, PHI4_MINI):
        release = variants(shape)
        for profile in BOARDS.values():
            there = told(profile)
            assert there is not None
            choice = fit.choose(release, profile, Terms(2048))
            assert fit.choose(list(map(published, release)), there, Terms(2048)) == choice


@UNTIMED
@given(fit_cases.candidates(), fit_cases.profiles(), fit_cases.terms(), st.data())
def test_both_sides_judge_alike(
    release: list[Candidate], profile: Profile, terms: Terms, data: st.DataObject
) -> None:
    there = told(profile)
    if there is None:  # what no real benchmark finds is refused as a whole
        return
    observed = data.draw(fit_cases.observations(release))
    choice = fit.choose(release, there, terms, observed)
    on_device = dataclasses.replace(terms, policy=planned(terms.policy))
    for verdict in choice.verdicts:
        (one,) = (one for one in release if one.variant == verdict.variant)
        alone = fit.judge(published(one), profile, on_device, observed)
        # The device does not know the siblings, so not that one of them is better.
        if verdict.fits:
            assert alone.fits
            assert (alone.rates, alone.ttft_ms) == (verdict.rates, verdict.ttft_ms)
        else:
            assert alone == verdict
