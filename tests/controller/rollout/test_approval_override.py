"""What an override of approvals says, and what of it reaches devices."""

from __future__ import annotations

from datetime import UTC, datetime
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.controlled import World
from sprat_controller.errors import RefusedError, RequestError
from sprat_controller.rollout import approval_override, approvals
from sprat_controller.rollout.approval_override import Override, Review, Verdict
from sprat_controller.rollout.requests import GivenApproval
from sprat_controller.store.tables import Device
from sprat_proto import approval, canonical
from sprat_proto.approval import Approver, ApproverPolicy, GroupPolicy
from sprat_proto.signing import SigningKey, generate_private_pem
from sprat_proto.states import RolloutState

NOW = datetime(2026, 11, 26, 21, 0, tzinfo=UTC)
WHY = "the model leaks secrets"
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=80)
REVIEWS = st.builds(Review, TEXT, st.sampled_from(Verdict), TEXT, st.just(NOW))


@given(st.builds(Override, TEXT, TEXT, st.just(NOW), st.none() | REVIEWS))
def test_what_is_kept_is_what_was_said(override: Override) -> None:
    assert approval_override.from_json(approval_override.to_json(override)) == override
    pending = override.review is None
    assert approval_override.in_words(override).endswith("review pending") or not pending


def test_nothing_kept_is_no_override() -> None:
    assert approval_override.from_json(None) is None


@given(st.text(max_size=600))
def test_a_reason_is_a_line_of_at_least_three_words_or_refused(text: str) -> None:
    try:
        said = approval_override.reason(text)
    except RequestError:
        words = text.split()
        is_text = not any(category(one) in ("Cc", "Cs") for one in "".join(words))
        assert not is_text or len(words) < approval_override.MIN_WORDS or len(text) > 512
        return
    assert said.split() == text.split()
    assert len(said.split()) >= approval_override.MIN_WORDS
    assert len(said) <= approval_override.MAX_TEXT
    assert "\n" not in said


def test_a_rejection_says_what_ends_the_rollout_while_something_does() -> None:
    rejected = Override("user:ann", WHY, NOW, Review("user:bob", Verdict.REJECTED, "", NOW))

    def said(state: RolloutState) -> str:
        return approval_override.told(rejected, "r-1", state)["said"]

    assert said(RolloutState.RUNNING).endswith(
        "rejected by user:bob; the rollout is RUNNING all the same: `sprat rollout stop r-1` or"
        " `sprat rollout roll-back r-1` ends it"
    )
    assert said(RolloutState.FINISHED).endswith("`sprat rollout roll-back r-1` ends it")
    assert said(RolloutState.STOPPED).endswith("rejected by user:bob")


def join(world: World) -> str:
    """Return a rollout to two groups: one asks for two people, one for a signature."""
    key = SigningKey(generate_private_pem())
    rules = [GroupPolicy("lima", "controller", 2), GroupPolicy("lyon", "device-enforced", 1)]
    world.policy = ApproverPolicy(1, [Approver("bob", key.public_pem)], rules)
    for name, group in (("a", "lyon"), ("b", "lima")):
        world.join(name)
        with world.database.transaction() as session:
            device = session.get(Device, name)
            assert device is not None
            device.group = group
    id_ = world.create().id
    with pytest.raises(RefusedError, match="lacks 1 signature for the group lyon: devices check"):
        world.service.override_approval(id_, WHY, "token:ann")
    assert world.state(id_) == RolloutState.WAITING_FOR_APPROVAL
    spec = (world.service.approval(id_).spec or "").encode()
    envelope = key.sign(spec, approval.PAYLOAD_TYPE).decode()
    signed = GivenApproval(canonical.sha256_hex(spec), envelope)
    assert world.service.approve(id_, signed, "token:bob").missing == (
        "1 approval for the group lima",
    )
    return id_


def test_only_what_the_controller_asks_for_is_overridden(world: World) -> None:
    id_ = join(world)
    found = world.service.override_approval(id_, WHY, "token:ann")
    assert found.state is RolloutState.STARTING
    # Devices get the signature that they ask for, and no word of the override.
    with world.database.reading() as session:
        (envelope,) = approvals.envelopes(session, {id_})
    assert WHY not in envelope
    world.run_due()
    assert {one for one, _ in world.pushed} == {"a", "b"}
