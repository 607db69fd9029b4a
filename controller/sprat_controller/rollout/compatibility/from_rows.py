"""Hardware classes and releases out of the database, for the matrix."""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy
from sprat_proto import fit
from sprat_proto.declared import profile_of
from sqlmodel import Session, col

from sprat_controller.access import within
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.errors import NotFoundError, RequestError
from sprat_controller.fleet import inventory, observed_rates
from sprat_controller.rollout import hardware, targets
from sprat_controller.rollout.compatibility import judging
from sprat_controller.rollout.compatibility.judging import HardwareClass, ReleaseVariants
from sprat_controller.store import queries
from sprat_controller.store.tables import Device


def classes(
    session: Session, name: str | None = None, scope: Scope = EVERYTHING
) -> list[HardwareClass]:
    """Return all hardware classes, the most devices first; or the one of that name.

    Of devices outside of the scope nothing is told.

    Raises:
        NotFoundError: No device is of the class that is named.
    """
    statement = sqlalchemy.select(
        col(Device.hardware_class), col(Device.id), col(Device.profile)
    ).where(
        col(Device.revoked_at).is_(None),
        col(Device.hardware_class).is_not(None),
        within.devices(session, scope),
    )
    if name is not None:
        statement = statement.where(col(Device.hardware_class) == name)
    found: defaultdict[str, dict[str, fit.Profile]] = defaultdict(dict)
    for of_class, device_id, profile in session.connection().execute(
        statement.order_by(col(Device.id))
    ):
        if of_class is not None and profile is not None:  # they are told together
            found[of_class][device_id] = hardware.from_json(profile)
    if name is not None and not found:
        raise NotFoundError(
            "class_not_found",
            f"no device is of the hardware class {name!r}: `sprat matrix` lists those there are",
        )
    made = [_class(of_class, profiles) for of_class, profiles in found.items()]
    return sorted(made, key=lambda one: (-one.devices, one.name))


def device(session: Session, device_id: str, scope: Scope = EVERYTHING) -> HardwareClass:
    """Return one device as if it were a class of its own, by its own profile.

    Raises:
        NotFoundError: There is no such device, or it has not told its hardware yet.
    """
    row = inventory.find(session, device_id, scope)
    if row.profile is None or row.hardware_class is None:
        raise NotFoundError(
            "no_profile", f"device {device_id} has not told its hardware yet: start its agent"
        )
    return _class(row.hardware_class, {device_id: hardware.from_json(row.profile)})


def declared(document: object) -> HardwareClass:
    """Return hardware that is only declared: `sprat_proto.declared`.

    Raises:
        RequestError: `invalid_profile`: a field is missing, unknown or wrong.
    """
    try:
        profile = profile_of(document)
    except ValueError as error:
        message = f"the hardware profile is not valid: {error}"
        raise RequestError("invalid_profile", message) from None
    return HardwareClass(hardware.hardware_class(profile), 0, "", profile)


def release(session: Session, model: str, version: str | None) -> ReleaseVariants:
    """Return a release of a model; the newest that was not retired, if none is named.

    Raises:
        NotFoundError: No such model or release.
        ConflictError: The release that is named was retired.
    """
    if version is None:
        kept = [one for one in queries.releases(session, model) if one.retired_at is None]
        if not kept:
            raise NotFoundError("release_not_found", f"every release of {model} was retired")
        version = kept[0].release
    candidates = targets.candidates(session, model, version)
    observed = observed_rates.of_release(session, model, version)
    return ReleaseVariants(model, version, tuple(candidates), observed)


def newest(session: Session) -> list[ReleaseVariants]:
    """Return each model's newest release that was not retired, models by name."""
    kept = {
        model: next((one for one in rows if one.retired_at is None), None)
        for model, rows in queries.models(session).items()
    }
    return [release(session, model, row.release) for model, row in sorted(kept.items()) if row]


def _class(name: str, profiles: dict[str, fit.Profile]) -> HardwareClass:
    return HardwareClass(
        name, len(profiles), next(iter(profiles)), judging.least(profiles.values())
    )
