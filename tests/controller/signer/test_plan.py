"""What is signed straight is what python-tuf would have made, and verifies."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import CryptoSigner
from simulators.signing_desk import NOW, assigned, model, targets
from sprat_controller.signer.plan import make_plan
from sprat_controller.signer.port import IssuedPlan, PlannedTarget
from sprat_controller.trust.words import is_signed_by, read, seal
from sprat_proto.assignment import Assignment, from_custom, to_custom
from sprat_proto.trust import TargetCustom
from tuf.api.metadata import MetaFile, Snapshot, TargetFile, Targets, Timestamp

SIGNER = CryptoSigner.generate_ed25519()
EXPIRES = NOW + timedelta(days=7)
VERSION = 1_800_000_000


def made(assignment: Assignment, stated: list[PlannedTarget] | None = None) -> IssuedPlan:
    stated = targets(assignment) if stated is None else stated
    return make_plan(assignment, stated, VERSION, EXPIRES, SIGNER)


def by_tuf(assignment: Assignment) -> IssuedPlan:
    files: dict[str, TargetFile] = {}
    for one in targets(assignment):
        files[one.path] = TargetFile(one.length, {"sha256": one.sha256}, one.path)
        files[one.path].unrecognized_fields["custom"] = msgspec.to_builtins(one.custom)
    named = Targets(VERSION, None, EXPIRES, files, None, {"custom": to_custom(assignment)})
    snapshot = Snapshot(VERSION, None, EXPIRES, {"targets.json": MetaFile(VERSION)})
    timestamp = Timestamp(VERSION, None, EXPIRES, MetaFile(VERSION))
    by = [SIGNER]
    signed = (seal(named, by), seal(snapshot, by), seal(timestamp, by))
    return IssuedPlan(VERSION, EXPIRES, *signed)


def test_it_is_what_python_tuf_makes_to_the_byte() -> None:
    for models in ([model()], [model(), model("helper", "2.0.0", "b" * 64)]):
        assert made(assigned(3, *models)) == by_tuf(assigned(3, *models))
    nothing = msgspec.structs.replace(assigned(), models=[])
    assert made(nothing) == by_tuf(nothing)


@given(issued=st.text(), execution=st.text(), approvals=st.lists(st.text(), max_size=3))
def test_whatever_its_texts_are_python_tuf_reads_them_and_the_signature_holds(
    issued: str, execution: str, approvals: list[str]
) -> None:
    one = msgspec.structs.replace(model(), execution_id=execution)
    wanted = msgspec.structs.replace(assigned(1, one), issued=issued, approvals=approvals)
    named = read(made(wanted).targets, Targets, "targets")
    assert is_signed_by(named, SIGNER.public_key)
    assert from_custom(named.signed.unrecognized_fields["custom"]) == wanted


def test_control_characters_are_signed_as_tuf_spells_them() -> None:
    for text in ("a\nb", "\\n", '\\"\t', "\x00\x7f\u2028", '{"payload":"é\\u0000"}'):
        wanted = msgspec.structs.replace(assigned(), approvals=[text])
        named = read(made(wanted).targets, Targets, "targets")
        assert is_signed_by(named, SIGNER.public_key)
        assert from_custom(named.signed.unrecognized_fields["custom"]) == wanted


@given(path=st.text(), name=st.text(), hardware=st.lists(st.text(), max_size=3))
def test_nor_does_it_depend_on_what_is_said_of_a_target(
    path: str, name: str, hardware: list[str]
) -> None:
    custom = TargetCustom(name, 1, hardware)
    named = read(
        made(assigned(), [PlannedTarget(path, 7, "a" * 64, custom)]).targets, Targets, "targets"
    )
    assert is_signed_by(named, SIGNER.public_key)
    assert named.signed.targets[path].unrecognized_fields["custom"] == msgspec.to_builtins(custom)
