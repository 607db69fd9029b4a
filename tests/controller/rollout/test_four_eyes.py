from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sprat_controller.rollout import four_eyes
from sprat_controller.rollout.four_eyes import Given
from sprat_proto.approval import NOBODY, Approver, ApproverPolicy, GroupPolicy
from sprat_proto.signing import SigningKey, generate_private_pem

KEYS = {name: SigningKey(generate_private_pem()) for name in ("ann", "bob", "old")}
POLICY = ApproverPolicy(
    schema=1,
    approvers=[Approver(name, KEYS[name].public_pem) for name in ("ann", "bob")],
    groups=[
        GroupPolicy("lyon", "device-enforced", 2),
        GroupPolicy("oslo", "controller", 2),
        GroupPolicy("rome", "none", 2),
    ],
)
ASKED = four_eyes.rules(POLICY, ["rome", "oslo", "lyon", "paris"])


def test_only_groups_that_ask_for_something_have_a_rule() -> None:
    assert [rule.group for rule in ASKED] == ["lyon", "oslo"]
    assert four_eyes.rules(NOBODY, ["lyon"]) == ()


def test_what_is_missing_is_said_for_each_group() -> None:
    assert four_eyes.missing(POLICY, ASKED, []) == (
        "2 signatures for the group lyon",
        "2 approvals for the group oslo",
    )
    signed = Given("token:a", KEYS["ann"].key_id)
    assert four_eyes.missing(POLICY, ASKED, [signed, Given("token:b", "")]) == (
        "1 signature for the group lyon",
    )
    assert four_eyes.missing(POLICY, ASKED, [signed, Given("token:b", KEYS["bob"].key_id)]) == ()


def test_a_signature_counts_only_while_its_key_is_listed() -> None:
    given = [Given("token:a", KEYS["ann"].key_id), Given("token:b", KEYS["old"].key_id)]
    assert four_eyes.missing(POLICY, ASKED, given) == ("1 signature for the group lyon",)


PEOPLE = st.sampled_from(["token:a", "token:b", "token:c"])
SIGNED = st.sampled_from(["", *(key.key_id for key in KEYS.values())])


@given(st.lists(st.builds(Given, PEOPLE, SIGNED), max_size=6))
def test_nothing_is_approved_by_fewer_people_or_keys_than_it_takes(given: list[Given]) -> None:
    if four_eyes.missing(POLICY, ASKED, given):
        return
    assert len({one.actor for one in given}) >= 2
    assert {KEYS["ann"].key_id, KEYS["bob"].key_id} <= {one.key_id for one in given}


def test_an_actor_is_named_without_what_it_is() -> None:
    assert four_eyes.name_of("user:ann") == "ann"
    assert four_eyes.name_of("planner") == "planner"
