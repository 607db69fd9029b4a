"""A hardware profile that a file declares, for devices that are simulated."""

from __future__ import annotations

from pathlib import Path

import msgspec
from sprat_proto import declared
from sprat_proto.fit import Profile


class ProfileError(ValueError):
    """A declared profile cannot be read: one sentence."""


def read(path: Path) -> Profile:
    """Return the profile that a JSON file declares, marked as simulated.

    Raises:
        ProfileError: It cannot be read, or a field is missing, unknown or wrong.
    """
    try:
        return declared.profile_of(msgspec.json.decode(path.read_bytes()))
    except OSError as error:
        raise ProfileError(f"cannot read the declared profile {path}: {error.strerror}") from error
    except ValueError as error:
        raise ProfileError(f"the declared profile {path} is not valid: {error}") from error
