"""Whether a manifest may be obeyed: what both repositories say of it, and what it says. Pure.

The director says who gets what, the image repository what is released. A device takes only what
both name alike, for its own hardware, and never below the release counter it has reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sprat_proto import canonical, manifest, trust
from sprat_proto.assignment import AssignedModel
from sprat_proto.manifest import Manifest, ManifestError
from sprat_proto.states import ReasonCode
from sprat_proto.trust import TargetCustom

from sprat_agent.registry.named import Named
from sprat_agent.sync.plan import refusal_of_age
from sprat_agent.sync.ports import ExecutionError


@dataclass(frozen=True)
class Past:
    """What ran on this device before.

    Attributes:
        counter: The highest release counter of the model that was ever committed here; 0 if none.
        was_proved: This very variant was committed here: going back to it is allowed.
    """

    counter: int
    was_proved: bool


def check_both(
    wanted: AssignedModel, director: Named | None, image: Named | None, hardware_id: str, past: Past
) -> Named:
    """Return what the image repository says, if a device may take it.

    Args:
        wanted: What the accepted assignment says.
        director: What the director says of its path, verified.
        image: What the image repository says of its path, verified.
        hardware_id: Of this device.
        past: Of this device and this model.

    Raises:
        ExecutionError: NOT_RELEASED, REPOSITORIES_DISAGREE, METADATA_REFUSED, WRONG_HARDWARE,
            RELEASE_TOO_OLD.
    """
    released = check_released(wanted, image, hardware_id)
    if director is None or _said(director) != _said(released):
        raise ExecutionError(
            ReasonCode.REPOSITORIES_DISAGREE,
            f"{wanted.name}: the director and the image repository say different things of"
            f" {wanted.path}: refusing it",
            expected=_words(released),
            found=_words(director) if director else "nothing",
        )
    _check_age(wanted, released, past)
    return released


def check_stated(
    wanted: AssignedModel,
    stated: Sequence[AssignedModel],
    image: Named | None,
    hardware_id: str,
    past: Past,
) -> Named:
    """Return what the image repository says, if a device may take it under an offline statement.

    As `check_both`, with the statement instead of the director: it binds publisher, names, size and
    SHA-256 of the manifest, and through that all that the manifest says of itself.

    Args:
        wanted: What the accepted assignment says.
        stated: What the statement names, verified.
        image: As in `check_both`.
        hardware_id: As in `check_both`.
        past: As in `check_both`.

    Raises:
        ExecutionError: As `check_both`.
    """
    released = check_released(wanted, image, hardware_id)
    if wanted not in stated:
        raise ExecutionError(
            ReasonCode.REPOSITORIES_DISAGREE,
            f"{wanted.name}: the offline statement does not name it so: refusing it",
            expected=", ".join(one.name for one in stated) or "nothing",
            found=wanted.name,
        )
    _check_age(wanted, released, past)
    return released


def check_released(wanted: AssignedModel, image: Named | None, hardware_id: str) -> Named:
    """Return what the image repository says, if it releases the wanted variant for this device.

    Raises:
        ExecutionError: NOT_RELEASED, REPOSITORIES_DISAGREE, METADATA_REFUSED, WRONG_HARDWARE.
    """
    if image is None:
        raise ExecutionError(
            ReasonCode.NOT_RELEASED,
            f"{wanted.name} is not released (any more): the image repository does not name"
            f" {wanted.path}",
            expected=wanted.path,
            found="nothing",
        )
    custom = _custom(wanted, image)
    stated = f"{wanted.publisher}/{wanted.model}"
    if (image.sha256, image.length, custom.name) != (wanted.digest, wanted.size, stated):
        raise ExecutionError(
            ReasonCode.REPOSITORIES_DISAGREE,
            f"{wanted.name}: another manifest is released than the assigned one: refusing it",
            expected=f"{stated}, {wanted.size} bytes, SHA-256 {wanted.digest}",
            found=f"{custom.name}, {image.length} bytes, SHA-256 {image.sha256}",
        )
    for who, allowed in (("it is", custom.hardware_ids), ("its publisher", image.hardware_ids)):
        if allowed is not None and hardware_id not in allowed:
            raise ExecutionError(
                ReasonCode.WRONG_HARDWARE,
                f"{wanted.name} does not run on this device: {who} released for"
                f" {', '.join(allowed) or 'nothing'}",
                expected=hardware_id,
                found=", ".join(allowed),
            )
    return image


def check_manifest(data: bytes, wanted: AssignedModel) -> Manifest:
    """Return the manifest, if it is the wanted one.

    Raises:
        ExecutionError: DIGEST_MISMATCH, MANIFEST_INVALID (malformed, or it names another variant).
    """
    found = canonical.sha256_hex(data)
    if found != wanted.digest:
        raise ExecutionError(
            ReasonCode.DIGEST_MISMATCH,
            f"the manifest of {wanted.name} is to have digest {wanted.digest[:12]} and has"
            f" {found[:12]}",
            expected=wanted.digest,
            found=found,
        )
    try:
        decoded = manifest.decode(data)
    except ManifestError as error:
        raise ExecutionError(
            ReasonCode.MANIFEST_INVALID, f"the manifest of {wanted.name} is not valid: {error}"
        ) from error
    if trust.path_of(decoded) != wanted.path:
        raise ExecutionError(
            ReasonCode.MANIFEST_INVALID,
            f"the assignment says {wanted.path} and the manifest says {trust.path_of(decoded)}",
            expected=wanted.path,
            found=trust.path_of(decoded),
        )
    return decoded


def check_same(decoded: Manifest, released: Named) -> None:
    """Check that the manifest says of itself what its release says of it.

    Raises:
        ExecutionError: MANIFEST_INVALID.
    """
    stated = trust.custom_of(decoded)
    if stated != released.custom:
        raise ExecutionError(
            ReasonCode.MANIFEST_INVALID,
            f"the manifest of {decoded.name} says something else of itself than its release",
            expected=str(released.custom),
            found=str(stated),
        )


def _check_age(wanted: AssignedModel, released: Named, past: Past) -> None:
    refusal = refusal_of_age(
        wanted.name, _custom(wanted, released), past.counter, was_proved=past.was_proved
    )
    if refusal:
        raise ExecutionError(
            refusal.code, refusal.message, expected=refusal.expected, found=refusal.found
        )


def _said(named: Named) -> tuple[object, ...]:
    """Return what must be equal in both."""
    return named.path, named.length, sorted(named.hashes), named.custom


def _custom(wanted: AssignedModel, image: Named) -> TargetCustom:
    if image.custom is None:
        raise ExecutionError(
            ReasonCode.METADATA_REFUSED,
            f"{wanted.name}: its release says neither release counter nor hardware: refusing it",
            expected="name, release_counter and hardware_ids",
            found="no such custom field",
        )
    return image.custom


def _words(named: Named) -> str:
    return f"{named.path}, {named.length} bytes, {dict(named.hashes)}, {named.custom}"
