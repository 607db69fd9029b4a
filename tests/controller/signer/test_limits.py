"""The signer's limits, over all that may be asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from simulators.signing_desk import assigned, targets
from sprat_controller.signer.limits import (
    Limits,
    why_no_certificate,
    why_no_plan,
    why_no_timestamp,
    why_too_large,
)
from sprat_controller.signer.port import CertificateRequest
from sprat_proto import topics
from sprat_proto.trust import MAX_TARGETS_BYTES

ROLE_NAMES = st.sampled_from(["targets", "pub-a", "pub-b", "root", "snapshot", "timestamp", ""])
ROLES = st.dictionaries(ROLE_NAMES, st.integers(-1, 5))


@given(ROLES, st.dictionaries(st.sampled_from(["targets", "pub-a", "pub-b"]), st.integers(1, 5)))
def test_no_role_ever_leaves_or_goes_back(roles: dict[str, int], before: dict[str, int]) -> None:
    if why_no_timestamp(roles, before) is None:
        assert roles.keys() >= before.keys()
        assert all(roles[role] >= version for role, version in before.items())
        assert "targets" in roles
        assert not roles.keys() & {"root", "snapshot", "timestamp", ""}
        assert min(roles.values()) >= 1


@given(st.integers(1, 6), st.integers(0, 6), st.booleans())
def test_no_plan_goes_back_or_is_for_the_revoked(
    version: int,
    before: int,
    is_revoked: bool,  # noqa: FBT001 - drawn by Hypothesis
) -> None:
    wanted = assigned(version)
    problem = why_no_plan(
        wanted, tuple(targets(wanted)), signed_before=before, is_revoked=is_revoked
    )
    assert (problem is None) == (version >= before and not is_revoked)


@given(
    st.sampled_from(["device", "client", "server"]),
    st.text(max_size=70) | st.sampled_from(["controller", "gw-1", "c.test"]),
    st.lists(st.sampled_from(["c.test", "evil.test"]), max_size=3),
)
def test_a_name_is_a_devices_the_controllers_or_a_servers_of_ours(
    kind: str, name: str, alternatives: list[str]
) -> None:
    request = CertificateRequest(kind, name, b"", tuple(alternatives))  # pyright: ignore[reportArgumentType] - drawn from its values
    limits = Limits(server_names=frozenset({"c.test"}))
    if why_no_certificate(request, limits, is_revoked=False) is None:
        match kind:
            case "device":
                assert topics.is_device_id(name)
                assert name != "controller"
                assert not alternatives
            case "client":
                assert name == "controller"
                assert not alternatives
            case _:
                assert {name, *alternatives} == {"c.test"}


def test_what_no_device_would_read_is_not_signed() -> None:
    assert why_too_large(MAX_TARGETS_BYTES) is None
    assert why_too_large(MAX_TARGETS_BYTES + 1) is not None
