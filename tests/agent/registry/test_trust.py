"""What both repositories must say of a manifest before it is obeyed."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from simulators.signed import Release, release
from sprat_agent.registry.named import Named
from sprat_agent.registry.trust import (
    Past,
    check_both,
    check_manifest,
    check_released,
    check_same,
    check_stated,
)
from sprat_agent.sync.ports import ExecutionError
from sprat_proto import manifest
from sprat_proto.states import ReasonCode
from sprat_proto.trust import TargetCustom, custom_of

ONE, TWO = release(), release("2.0.0", counter=2)
HERE = "cpu-x86_64"
NEVER = Past(0, was_proved=False)


def named(one: Release) -> Named:
    return Named(
        path=one.path,
        length=one.wanted("e").size,
        hashes=(("sha256", one.digest),),
        custom=custom_of(one.manifest),
        signer="acme (0123)",
    )


def refusal(
    director: Named | None, image: Named | None, hardware: str = HERE, past: Past = NEVER
) -> ExecutionError:
    with pytest.raises(ExecutionError) as caught:
        check_both(ONE.wanted("e"), director, image, hardware, past)
    return caught.value


def test_what_both_name_alike_is_obeyed() -> None:
    assert check_both(ONE.wanted("e"), named(ONE), named(ONE), HERE, NEVER) == named(ONE)


def test_what_the_image_repository_does_not_name_is_not_released() -> None:
    error = refusal(named(ONE), None)
    assert (error.code, error.expected) == (ReasonCode.NOT_RELEASED, ONE.path)


LIES = {
    "nothing": None,
    "another hash": replace(named(ONE), hashes=(("sha256", "0" * 64),)),
    "one hash more": replace(named(ONE), hashes=(("sha256", ONE.digest), ("sha512", "00"))),
    "another length": replace(named(ONE), length=1),
    "another counter": replace(named(ONE), custom=TargetCustom("acme/talk", 9, [HERE])),
    "more hardware": replace(named(ONE), custom=TargetCustom("acme/talk", 1, [HERE, "cpu-x"])),
    "another name": replace(named(ONE), custom=TargetCustom("acme/walk", 1, [HERE])),
    "no custom": replace(named(ONE), custom=None),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_director_that_says_anything_else_is_refused(lie: Named | None) -> None:
    error = refusal(lie, named(ONE))
    assert error.code is ReasonCode.REPOSITORIES_DISAGREE
    assert error.expected != error.found


def test_both_repositories_may_not_agree_on_another_manifest_than_the_assigned() -> None:
    other = replace(named(TWO), path=ONE.path)
    assert refusal(other, other).code is ReasonCode.REPOSITORIES_DISAGREE


def test_a_release_without_its_custom_field_is_refused() -> None:
    bare = replace(named(ONE), custom=None)
    assert refusal(bare, bare).code is ReasonCode.METADATA_REFUSED


def test_another_hardware_is_refused_with_what_it_is_for() -> None:
    error = refusal(named(ONE), named(ONE), "cpu-aarch64")
    assert (error.code, error.expected, error.found) == (
        ReasonCode.WRONG_HARDWARE,
        "cpu-aarch64",
        HERE,
    )


@pytest.mark.parametrize("allowed", [(), ("cpu-aarch64",)])
def test_a_publisher_releases_only_for_hardware_that_it_may_sign_for(
    allowed: tuple[str, ...],
) -> None:
    limited = replace(named(ONE), hardware_ids=allowed)
    assert refusal(named(ONE), limited).code is ReasonCode.WRONG_HARDWARE
    check_released(ONE.wanted("e"), replace(limited, hardware_ids=(HERE,)), HERE)


def test_an_older_release_is_refused_unless_it_ran_here() -> None:
    error = refusal(named(ONE), named(ONE), past=Past(2, was_proved=False))
    assert (error.code, error.expected, error.found) == (
        ReasonCode.RELEASE_TOO_OLD,
        "release counter 2 or higher",
        "release counter 1",
    )
    ran = Past(2, was_proved=True)
    assert check_both(ONE.wanted("e"), named(ONE), named(ONE), HERE, ran)


def test_under_a_statement_only_what_it_names_exactly_is_obeyed() -> None:
    wanted, past = ONE.wanted("e1"), Past(0, was_proved=False)
    assert check_stated(wanted, [wanted], named(ONE), "cpu-x86_64", past) == named(ONE)
    for stated in ([], [ONE.wanted("e2")], [ONE.wanted("e1", run_until=1)]):
        with pytest.raises(ExecutionError) as caught:
            check_stated(wanted, stated, named(ONE), "cpu-x86_64", past)
        assert caught.value.code is ReasonCode.REPOSITORIES_DISAGREE


def test_the_manifest_is_the_assigned_one_and_says_what_was_released() -> None:
    data = manifest.encode(ONE.manifest)
    decoded = check_manifest(data, ONE.wanted("e"))
    check_same(decoded, named(ONE))
    with pytest.raises(ExecutionError) as caught:
        check_same(decoded, replace(named(ONE), custom=TargetCustom("acme/talk", 5, [HERE])))
    assert caught.value.code is ReasonCode.MANIFEST_INVALID


def test_another_manifest_is_refused() -> None:
    with pytest.raises(ExecutionError) as caught:
        check_manifest(manifest.encode(TWO.manifest), ONE.wanted("e"))
    assert (caught.value.code, caught.value.found) == (ReasonCode.DIGEST_MISMATCH, TWO.digest)


def test_names_that_the_manifest_does_not_say_are_refused() -> None:
    lying = msgspec.structs.replace(ONE.wanted("e"), release="9.9.9")
    with pytest.raises(ExecutionError) as caught:
        check_manifest(manifest.encode(ONE.manifest), lying)
    assert caught.value.code is ReasonCode.MANIFEST_INVALID
    assert caught.value.found == ONE.path
