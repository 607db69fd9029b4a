from __future__ import annotations

import pytest
from sprat_proto import bundle
from sprat_proto.approval import Approver
from sprat_proto.bundle import OfflineRole, RoleError
from sprat_proto.signing import SigningKey, generate_private_pem

ANN, BOB = (
    Approver(name, SigningKey(generate_private_pem()).public_pem) for name in ("ann", "bob")
)


def custom(role: OfflineRole) -> object:
    return {"offline": bundle.role_to_custom(role), "something": "newer"}


def test_a_roots_custom_field_says_whose_word_counts_for_groups() -> None:
    role = OfflineRole([ANN, BOB])
    assert role.threshold == 2
    assert bundle.role_of(custom(role)) == role


def test_a_root_that_says_nothing_names_nobody() -> None:
    for said in (None, {}, {"other": 1}):
        assert bundle.role_of(said) is None


@pytest.mark.parametrize(
    "said",
    [
        "offline",
        {"offline": []},
        {"offline": {"keys": []}},
        {"offline": {"keys": [{"name": "ann", "public_pem": "x"}], "threshold": 1}},
        custom(OfflineRole([ANN], 2)),
        custom(OfflineRole([ANN, ANN], 2)),
        custom(OfflineRole([ANN, Approver("bob", ANN.public_pem)], 2)),
        custom(OfflineRole([ANN, Approver("ann", BOB.public_pem)], 2)),
        custom(OfflineRole([ANN, BOB], 0)),
    ],
)
def test_a_root_that_does_not_say_it_clearly_is_refused(said: object) -> None:
    with pytest.raises(RoleError, match="the director's root"):
        bundle.role_of(said)
