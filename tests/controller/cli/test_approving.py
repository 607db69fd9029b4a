"""`sprat rollout approve`: what is signed is what was shown, whatever the controller says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from simulators import frozen
from simulators.operator_api import OperatorApi
from simulators.sprat_command import Sprat
from sprat_controller.cli.approving import served, when
from sprat_controller.rollout import signed_strategy
from sprat_controller.rollout.strategy import AbortCriterion, Group, Pace, Strategy
from sprat_proto import approval
from sprat_proto.approval import Approver, ApproverPolicy
from sprat_proto.assignment import ServingTerms, Windows
from sprat_proto.policy import Aim, FitPolicy
from sprat_proto.signing import SigningKey, generate_private_pem
from sprat_proto.windows import WindowSpec

CAREFUL = Strategy(
    groups=(Group(devices=1, soak_s=3600), Group(percent=2.5), Group()),
    abort=(AbortCriterion(percent=5),),
)
KEY = SigningKey(generate_private_pem())
DIGEST = frozen.SPEC.digests[0]


@pytest.fixture
def waiting(api: OperatorApi) -> bytes:
    api.lists["rollouts"].append({"id": "r-1", "state": "WAITING_FOR_APPROVAL"})
    return frozen.freeze(api, "r-1")


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, SigningKey]:
    pem = generate_private_pem()
    path = tmp_path / "bob.pem"
    path.write_bytes(pem)
    path.chmod(0o600)
    return path, SigningKey(pem)


def test_the_frozen_specification_is_shown_in_words_and_signed_here(
    sprat: Sprat, waiting: bytes, key: tuple[Path, SigningKey]
) -> None:
    path, signer = key
    said = sprat("rollout", "approve", "r-1", "--key", str(path), "--yes", "-o", "json")
    assert said.status == 0
    assert said.errors.splitlines() == [
        "rollout   r-1, asked for by carol",
        "alias     assistant",
        f"brings    ann/talk@1.0.0+q4_0, 100.0 MiB, sha256 {DIGEST}",
        "groups    lyon, oslo",
        "context   2048 tokens",
        "served    slots as the device decides, keys and values f16",
        "policy    the release's own",
        "when      at any time",
        "at once   all devices",
        "proceeds  all at once",
        "runs      for ever",
        "good      until 2026-11-18 11:06+00:00",
    ]
    sent = sprat.api.bodies[-1]
    policy = ApproverPolicy(1, [Approver("bob", signer.public_pem)], [])
    assert approval.signed_by(policy, sent["envelope"]) == (approval.decode(waiting), ("bob",))
    assert said.json["approved_by"] == ["user:root"]


def test_how_a_model_is_served_is_said_in_words() -> None:
    terms = ServingTerms(slots=4, kv_type="q8_0", is_pinned=True)
    assert served(terms) == "4 slots, keys and values q8_0, pinned"


def test_a_policy_is_shown_from_the_bytes_that_are_signed(
    sprat: Sprat, api: OperatorApi, key: tuple[Path, SigningKey]
) -> None:
    asked = FitPolicy(aim=Aim.SMALLEST, max_loss_ppm=20_000)
    api.lists["rollouts"].append({"id": "r-1", "state": "WAITING_FOR_APPROVAL", "policy": None})
    frozen.freeze(api, "r-1", policy=asked)
    said = sprat("rollout", "approve", "r-1", "--key", str(key[0]), "--yes")
    assert said.status == 0
    shown = "policy    smallest, a quality loss of at most 2 %"
    assert shown in said.errors.splitlines()


def test_the_strategy_that_is_shown_is_the_one_that_is_signed(
    sprat: Sprat, api: OperatorApi, key: tuple[Path, SigningKey]
) -> None:
    api.lists["rollouts"].append({"id": "r-1", "state": "WAITING_FOR_APPROVAL"})
    frozen.freeze(api, "r-1", CAREFUL)
    said = sprat("rollout", "approve", "r-1", "--key", str(key[0]), "--yes")
    assert said.status == 0
    (shown,) = (one for one in said.errors.splitlines() if one.startswith("proceeds"))
    assert (
        "1 device, 2.5 %, the rest; group 0: soaks 1 h; PAUSE from 5 % and 1 ended badly" in shown
    )
    assert '"percent":2.5' in api.strategies["r-1"]
    policy = ApproverPolicy(1, [Approver("bob", key[1].public_pem)], [])
    spec, _ = approval.signed_by(policy, api.bodies[-1]["envelope"])
    document = api.strategies["r-1"].encode()
    assert spec.strategy_sha256 == hashlib.sha256(document).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        None,
        "",
        "{}",
        '{"groups":1}',
        signed_strategy.document(Strategy()).decode(),
        signed_strategy.document(CAREFUL).decode() + " ",
        signed_strategy.document(CAREFUL).decode().replace('"percent":5}', '"percent":6}'),
        signed_strategy.document(CAREFUL).decode().replace('"soak_s":3600', '"soak_s":0'),
        signed_strategy.document(CAREFUL).decode().replace('"SNAPSHOT"', '"CONTINUOUS"'),
    ],
)
def test_another_strategy_than_the_bound_one_is_not_signed(
    sprat: Sprat, api: OperatorApi, key: tuple[Path, SigningKey], other: str | None
) -> None:
    api.lists["rollouts"].append({"id": "r-1", "state": "WAITING_FOR_APPROVAL"})
    frozen.freeze(api, "r-1", CAREFUL)
    assert other != api.strategies["r-1"]
    if other is None:
        del api.strategies["r-1"]
    else:
        api.strategies["r-1"] = other
    said = sprat("rollout", "approve", "r-1", "--key", str(key[0]), "--yes")
    said.assert_one_sentence(6)
    assert "nothing was signed" in said.errors
    assert api.bodies == []


def test_a_strategy_beside_a_specification_that_binds_none_is_not_signed(
    sprat: Sprat, api: OperatorApi
) -> None:
    """A controller in the wrong hands leaves the digest out and shows what it likes."""
    api.lists["rollouts"].append({"id": "r-1", "state": "WAITING_FOR_APPROVAL"})
    frozen.freeze(api, "r-1")
    api.strategies["r-1"] = signed_strategy.document(CAREFUL).decode()
    said = sprat("rollout", "approve", "r-1", "--yes")
    said.assert_one_sentence(6)
    assert "in the specification, found none" in said.errors


def test_when_devices_may_act_is_said_in_words() -> None:
    night = WindowSpec(cron="0 2 * * *", duration_s=3600, zone="Europe/Paris")
    assert when(Windows(download=night, activate=night)) == (
        "downloads by '0 2 * * *' in Europe/Paris for 60 min, activates by '0 2 * * *' in"
        " Europe/Paris for 60 min"
    )
    assert when(Windows(not_before=60, deadline=120)) == (
        "not before 1970-01-01 00:01+00:00, installed before 1970-01-01 00:02+00:00"
    )
    assert when(Windows(override=True)) == "at any time: it is an emergency"


@pytest.mark.usefixtures("waiting")
def test_without_a_key_what_was_shown_is_named_by_its_hash(sprat: Sprat) -> None:
    assert sprat("rollout", "approve", "r-1", "--yes").status == 0
    assert set(sprat.api.bodies[-1]) == {"spec_sha256", "envelope"}
    assert sprat.api.bodies[-1]["envelope"] == ""


@pytest.mark.usefixtures("waiting")
def test_nothing_is_approved_unasked(sprat: Sprat) -> None:
    said = sprat("rollout", "approve", "r-1")
    assert said.status == 64
    assert "Approve exactly this?" in said.errors
    assert sprat.api.bodies == []


@pytest.mark.usefixtures("waiting")
def test_another_manifest_under_the_digest_is_refused(sprat: Sprat, api: OperatorApi) -> None:
    api.blobs[DIGEST] = frozen.MANIFEST.replace(b"1.0.0", b"1.0.1")
    said = sprat("rollout", "approve", "r-1", "--yes")
    assert said.status == 6
    assert "found other bytes: nothing was signed" in said.errors
    assert sprat.api.bodies == []


@pytest.mark.usefixtures("waiting")
def test_a_manifest_that_the_controller_withholds_is_not_approved(
    sprat: Sprat, api: OperatorApi
) -> None:
    api.blobs.clear()
    assert sprat("rollout", "approve", "r-1", "--yes").status == 1
    assert sprat.api.bodies == []


@pytest.mark.usefixtures("waiting")
def test_a_specification_of_another_rollout_or_none_is_refused(
    sprat: Sprat, api: OperatorApi
) -> None:
    good = api.specs["r-1"]
    for text, message in (
        (good.replace('"r-1"', '"r-2"'), "found that of r-2: nothing was signed"),
        (good + " ", "nothing was signed: rollout specification"),
        ("{}", "nothing was signed: rollout specification"),
    ):
        api.specs["r-1"] = text
        said = sprat("rollout", "approve", "r-1", "--yes")
        assert said.status == 6
        assert message in said.errors
    assert sprat.api.bodies == []


def test_a_rollout_that_waits_for_nothing_is_not_approved(sprat: Sprat, api: OperatorApi) -> None:
    api.lists["rollouts"].append({"id": "r-1", "state": "RUNNING"})
    said = sprat("rollout", "approve", "r-1", "--yes")
    said.assert_one_sentence(5)
    assert "the rollout r-1 is RUNNING and waits for no approval" in said.errors


@pytest.mark.usefixtures("waiting")
def test_a_removal_and_an_end_are_said_in_words(sprat: Sprat, api: OperatorApi) -> None:
    frozen.freeze(api, "r-1", Strategy(pace=Pace(5)), digests=[], run_until=1_795_000_000)
    said = sprat("rollout", "approve", "r-1", "--yes")
    assert "brings    nothing: the alias is removed" in said.errors
    assert "runs      until 2026-11-18" in said.errors
    assert "at once   5 devices" in said.errors


def test_who_approved_and_what_is_missing_is_shown(sprat: Sprat, api: OperatorApi) -> None:
    api.lists["rollouts"].append({"id": "r-1", "state": "WAITING_FOR_APPROVAL"})
    said = sprat("rollout", "approval", "r-1")
    assert ["missing", "1 signature"] in said.lines


def test_an_edit_sends_what_changes(sprat: Sprat, api: OperatorApi) -> None:
    api.lists["rollouts"].append({"id": "r-1", "state": "READY"})
    assert sprat("rollout", "edit", "r-1", "--max-in-progress", "0", "--name", "x").status == 0
    assert api.bodies == [{"max_in_progress": 0, "name": "x"}]


def test_a_denial_sends_its_reason(sprat: Sprat, api: OperatorApi) -> None:
    api.lists["rollouts"].append({"id": "r-1", "state": "WAITING_FOR_APPROVAL"})
    assert sprat("rollout", "deny", "r-1", "--reason", "not on a Friday").status == 0
    assert api.bodies == [{"reason": "not on a Friday"}]
