"""T21 of the adversarial tests: what a device that enforces approvals refuses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sprat_proto import approval
from sprat_proto.approval import (
    Approver,
    ApproverPolicy,
    Change,
    GroupPolicy,
    PolicyError,
    RolloutSpec,
    why_not_approved,
)
from sprat_proto.assignment import ServingTerms, Windows
from sprat_proto.canonical import NotCanonicalError
from sprat_proto.policy import FitPolicy
from sprat_proto.signing import SignatureRefusedError, SigningKey, generate_private_pem, merge
from sprat_proto.windows import WindowSpec

NOW = 1_780_000_000
DIGEST = "d" * 64
KEYS = {name: SigningKey(generate_private_pem()) for name in ("ann", "bob", "eve", "req")}
CHANGE = Change("assistant", DIGEST, 2048)


def policy(*names: str, threshold: int = 2, kind: Any = "device-enforced") -> ApproverPolicy:
    return ApproverPolicy(
        schema=1,
        approvers=[Approver(name, KEYS[name].public_pem) for name in names],
        groups=[GroupPolicy("lyon", kind, threshold), GroupPolicy("oslo", "device-enforced")],
    )


POLICY = policy("ann", "bob")
SPEC = RolloutSpec(
    schema=1,
    rollout_id="0190c5ad-0000-7000-8000-000000000001",
    alias="assistant",
    digests=["c" * 64, DIGEST],
    groups=["lyon"],
    context=2048,
    max_in_progress=100,
    run_until=0,
    requested_by="carol",
    requester_key_id="",
    not_after=NOW + 60,
)


def signed(*names: str, kind: str = approval.PAYLOAD_TYPE, **changes: Any) -> str:
    payload = approval.encode(msgspec.structs.replace(SPEC, **changes))
    return merge([KEYS[name].sign(payload, kind) for name in names]).decode()


def refused(*approvals: str, **other: Any) -> str:
    asked: dict[str, Any] = {
        "policy": POLICY,
        "group": "lyon",
        "changes": [CHANGE],
        "now": NOW,
        **other,
    }
    why = why_not_approved(approvals=approvals, **asked)
    assert why is not None
    assert why.startswith("expected an approval of assistant for the group")
    return why


def accepted(*approvals: str, **other: Any) -> None:
    asked: dict[str, Any] = {
        "policy": POLICY,
        "group": "lyon",
        "changes": [CHANGE],
        "now": NOW,
        **other,
    }
    assert why_not_approved(approvals=approvals, **asked) is None


def test_two_approvers_are_enough_in_any_order_beside_other_signatures() -> None:
    for names in (("ann", "bob"), ("bob", "ann"), ("eve", "bob", "ann"), ("ann", "eve", "bob")):
        accepted(signed(*names))


def test_a_good_envelope_among_useless_ones_is_enough() -> None:
    accepted("", "{}", signed("ann"), signed("ann", "bob", alias="b"), signed("ann", "bob"))


def test_how_a_model_is_served_is_approved_with_it() -> None:
    terms = ServingTerms(slots=4, kv_type="q8_0", is_pinned=True)
    served = Change("assistant", DIGEST, 2048, terms=terms)
    agreed = signed("ann", "bob", serving=terms)
    accepted(agreed, changes=[served])
    refused(signed("ann", "bob"), changes=[served])
    refused(agreed)
    for other in ({"slots": 5}, {"kv_type": "f16"}, {"is_pinned": False}):
        changed = msgspec.structs.replace(terms, **other)
        refused(agreed, changes=[Change("assistant", DIGEST, 2048, terms=changed)])


def test_a_policy_is_approved_with_it() -> None:
    asked = FitPolicy(min_decode_milli_tps=5000)
    held = Change("assistant", DIGEST, 2048, policy=asked)
    agreed = signed("ann", "bob", policy=asked)
    accepted(agreed, changes=[held])
    refused(signed("ann", "bob"), changes=[held])
    refused(agreed)
    looser = FitPolicy(min_decode_milli_tps=4999)
    refused(agreed, changes=[Change("assistant", DIGEST, 2048, policy=looser)])
    # To lift what the release asks must be approved, too.
    nothing = Change("assistant", DIGEST, 2048, policy=FitPolicy())
    refused(signed("ann", "bob"), changes=[nothing])
    accepted(signed("ann", "bob", policy=FitPolicy()), changes=[nothing])


def test_windows_are_approved_with_it() -> None:
    night = Windows(activate=WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Paris"))
    agreed = signed("ann", "bob", windows=night)

    def within(windows: Windows) -> list[Change]:
        return [Change("assistant", DIGEST, 2048, windows=windows)]

    accepted(agreed, changes=within(night))
    refused(agreed)
    refused(signed("ann", "bob"), changes=within(night))
    # Neither by day nor in an emergency that nobody approved; but the way back is approved.
    refused(agreed, changes=within(msgspec.structs.replace(night, override=True)))
    refused(agreed, changes=within(msgspec.structs.replace(night, deadline=NOW)))
    accepted(agreed, changes=within(msgspec.structs.replace(night, is_way_back=True)))


def test_a_strategy_that_is_bound_changes_nothing_for_a_device_but_what_was_signed() -> None:
    bound = signed("ann", "bob", strategy_sha256="5" * 64)
    accepted(bound)
    forged = json.loads(bound)
    forged["payload"] = json.loads(signed("ann", "bob", strategy_sha256="6" * 64))["payload"]
    assert "does not cover" in refused(json.dumps(forged))
    for digest in ("", "5" * 63, "G" * 64):
        assert "no specification" in refused(signed("ann", "bob", strategy_sha256=digest))


def test_a_specification_without_terms_is_spelled_as_before_there_were_any() -> None:
    assert b"windows" not in approval.encode(SPEC)
    assert b"strategy" not in approval.encode(SPEC)
    assert b"serving" not in approval.encode(SPEC)
    assert b"policy" not in approval.encode(SPEC)
    accepted(signed("ann", "bob", serving=ServingTerms()))


def test_t21_without_a_signature_nothing_is_approved() -> None:
    assert refused().endswith("by 2 of its approvers, found no approval")
    bare = json.loads(signed("ann"))
    bare["signatures"] = []
    assert "found key no signature" in refused(json.dumps(bare))


def test_t21_one_signature_of_two_is_refused() -> None:
    assert f"found key {KEYS['ann'].key_id[:12]}" in refused(signed("ann"))
    refused(signed("ann"), signed("bob"))  # each has one: two halves are no whole


def test_t21_the_same_signature_twice_is_refused() -> None:
    doubled = json.loads(signed("ann"))
    doubled["signatures"] *= 2
    assert "no DSSE envelope" in refused(json.dumps(doubled))
    refused(signed("ann"), signed("ann"))


def test_t21_one_signature_under_the_key_ids_of_two_is_refused() -> None:
    forged = json.loads(signed("ann"))
    forged["signatures"].append({**forged["signatures"][0], "keyid": KEYS["bob"].key_id})
    assert "signature of bob does not cover" in refused(json.dumps(forged))


def test_t21_a_stranger_beside_an_approver_is_refused() -> None:
    refused(signed("ann", "eve"))


def test_t21_a_revoked_approver_no_longer_counts() -> None:
    both = signed("ann", "bob")
    accepted(both)
    refused(both, policy=policy("ann", "eve"))


@pytest.mark.parametrize(
    "changes",
    [
        {"digests": ["e" * 64]},
        {"alias": "other"},
        {"groups": ["oslo"]},
        {"context": 4096},
        {"run_until": 1},
        {"not_after": NOW + 61},
        {"requested_by": "dan"},
        {"max_in_progress": 0},
    ],
)
def test_t21_a_specification_that_was_changed_after_it_was_signed_is_refused(
    changes: dict[str, Any],
) -> None:
    forged = json.loads(signed("ann", "bob"))
    forged["payload"] = json.loads(signed("ann", "bob", **changes))["payload"]
    assert "does not cover" in refused(json.dumps(forged))


@pytest.mark.parametrize(
    "change",
    [
        Change("assistant", "e" * 64, 2048),
        Change("assistant", "", 2048),
        Change("other", DIGEST, 2048),
        Change("assistant", DIGEST, 1024),
        Change("assistant", DIGEST, 4096),
        Change("assistant", DIGEST, 4096, held_context=2048),
        Change("assistant", DIGEST, 2048, run_until=NOW),
    ],
)
def test_t21_what_was_approved_covers_nothing_else(change: Change) -> None:
    why = why_not_approved(POLICY, "lyon", [CHANGE, change], [signed("ann", "bob")], NOW)
    assert why is not None
    assert "which is for something else" in why


def test_t21_an_approval_for_another_group_is_refused() -> None:
    assert "which is for lyon" in refused(signed("ann", "bob"), group="oslo")
    assert "which is for oslo, rome" in refused(signed("ann", "bob", groups=["oslo", "rome"]))


def test_t21_an_approval_past_its_moment_is_refused() -> None:
    accepted(signed("ann", "bob"), now=NOW + 60)
    assert "which was good until" in refused(signed("ann", "bob"), now=NOW + 61)


def test_t21_a_requester_among_the_approvers_is_refused() -> None:
    policy_with = policy("ann", "bob", "req")
    by_key = {"requester_key_id": KEYS["req"].key_id}
    accepted(signed("ann", "bob", **by_key), policy=policy_with)
    for names in (("req", "ann"), ("ann", "bob", "req")):
        assert "which carol asked for and signed" in refused(
            signed(*names, **by_key), policy=policy_with
        )
    assert "which req asked for and signed" in refused(
        signed("req", "ann", requested_by="req"), policy=policy_with
    )


def test_t21_another_payload_type_is_refused() -> None:
    assert "payload type application/json" in refused(signed("ann", "bob", kind="application/json"))
    swapped = json.loads(signed("ann", "bob", kind="application/json"))
    swapped["payloadType"] = approval.PAYLOAD_TYPE
    assert "does not cover" in refused(json.dumps(swapped))


def test_t21_a_signed_text_that_is_no_specification_is_refused() -> None:
    for payload in (b"", b"{}", approval.encode(SPEC) + b" "):
        envelope = merge(
            [KEYS[name].sign(payload, approval.PAYLOAD_TYPE) for name in ("ann", "bob")]
        )
        assert "no specification" in refused(envelope.decode())


def test_a_context_that_another_alias_holds_already_is_covered() -> None:
    accepted(signed("ann", "bob"), changes=[Change("assistant", DIGEST, 4096, held_context=4096)])


def test_every_change_needs_an_approval_and_each_may_have_its_own() -> None:
    second = Change("translator", DIGEST, 2048)
    both = [signed("ann", "bob"), signed("ann", "bob", alias="translator")]
    accepted(*both, changes=[CHANGE, second])
    assert why_not_approved(POLICY, "lyon", [CHANGE, second], both[:1], NOW) is not None


def test_an_alias_is_removed_only_by_an_approval_to_remove_it() -> None:
    removal = Change("assistant", "", 2048)
    accepted(signed("ann", "bob", digests=[]), changes=[removal])
    refused(signed("ann", "bob", digests=[]))


def test_groups_that_do_not_enforce_ask_a_device_for_nothing() -> None:
    accepted(group="rome")
    accepted(policy=policy("ann", "bob", kind="controller"))
    accepted(policy=policy("ann", "bob", kind="none"))
    accepted(policy=approval.NOBODY)
    accepted(changes=[])


SUBSETS = st.lists(st.sampled_from(sorted(KEYS)), max_size=5)


@given(st.lists(SUBSETS, max_size=4), st.integers(1, 3), st.data())
def test_no_envelope_without_enough_approvers_keys_is_ever_accepted(
    signers: list[list[str]], threshold: int, data: Any
) -> None:
    rules = policy("ann", "bob", "req", threshold=threshold)
    envelopes: list[str] = []
    for names in signers:
        envelope = json.loads(signed(*(names or ["eve"])))
        entries = envelope["signatures"] + data.draw(
            st.lists(st.sampled_from(envelope["signatures"]), max_size=2)
        )
        claimed = data.draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=3))
        entries += [{**entries[0], "keyid": KEYS[name].key_id} for name in claimed]
        envelope["signatures"] = data.draw(st.permutations(entries))
        envelopes.append(json.dumps(envelope))
    if why_not_approved(rules, "lyon", [CHANGE], envelopes, NOW) is None:
        most = max(len(set(names) & {"ann", "bob", "req"}) for names in signers)
        assert most >= threshold


@given(st.integers(0, 2000), st.integers(1, 255))
def test_no_changed_byte_is_ever_accepted_as_something_else(position: int, flip: int) -> None:
    data = bytearray(signed("ann", "bob").encode())
    data[position % len(data)] ^= flip
    text = bytes(data).decode("utf-8", "replace")
    other = Change("assistant", "e" * 64, 2048)
    assert why_not_approved(POLICY, "lyon", [other], [text], NOW) is not None


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_whatever_comes_instead_of_an_envelope_is_refused(text: str) -> None:
    assert why_not_approved(POLICY, "lyon", [CHANGE], [text], NOW) is not None


def test_an_approval_by_two_fits_into_a_kilobyte() -> None:
    both = signed("ann", "bob", digests=[DIGEST], requester_key_id=KEYS["req"].key_id)
    assert len(both) <= 1000
    assert len(signed("ann", "bob", digests=[DIGEST], strategy_sha256="5" * 64)) <= 1100


def test_a_policy_survives_its_canonical_form() -> None:
    assert approval.decode_policy(approval.encode_policy(POLICY)) == POLICY


def test_a_policy_that_counts_somebody_twice_or_can_never_be_met_is_refused() -> None:
    ann, bob = POLICY.approvers
    twice = "expected each approver and each key once"
    cases = [
        (policy("ann", "ann"), twice),
        (msgspec.structs.replace(POLICY, approvers=[ann, Approver("ann2", ann.public_pem)]), twice),
        (msgspec.structs.replace(POLICY, approvers=[ann, Approver("ann", bob.public_pem)]), twice),
        (msgspec.structs.replace(POLICY, groups=POLICY.groups * 2), "expected each group once"),
        (policy("ann", threshold=2), "found 1: nothing could ever be approved there"),
        (
            msgspec.structs.replace(POLICY, approvers=[Approver("ann", "no key")]),
            "approver ann: expected an Ed25519 public key",
        ),
    ]
    for wrong, message in cases:
        with pytest.raises(PolicyError, match=message):
            approval.encode_policy(wrong)


def test_a_policy_in_another_spelling_is_refused() -> None:
    for data in (b"", b"[]", approval.encode_policy(POLICY) + b"\n"):
        with pytest.raises(PolicyError):
            approval.decode_policy(data)


def test_who_signed_is_told_with_what() -> None:
    assert approval.signed_by(POLICY, signed("ann")) == (SPEC, ("ann",))
    with pytest.raises(SignatureRefusedError):
        approval.signed_by(POLICY, signed("eve"))
    with pytest.raises(NotCanonicalError):
        approval.signed_by(POLICY, KEYS["ann"].sign(b"{}", approval.PAYLOAD_TYPE).decode())
