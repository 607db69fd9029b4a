"""The configuration as audit sees it: every setting by its name, and the policy of inference.

Settings are walked through, not listed: one that is added to `RunConfig` is on record from then on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any, Final

from sprat_agent.audit.capture import KEY_BYTES, Capturing
from sprat_agent.audit.policy import Policy, PolicyError, parse
from sprat_agent.config import RunConfig
from sprat_agent.errors import StartupError
from sprat_agent.identity import files

KEY_FILE: Final = "capture-key"
# Of these what is in them matters, too; what is in a private key is nobody's business.
_CONTENTS: Final = frozenset({"declared_profile", "certificate", "api_keys", "policy"})
_MOST_BYTES: Final = 1 << 20


def settings_of(config: RunConfig) -> dict[str, object]:
    """Return every setting by its name; of a file that matters, the path and its digest.

    Raises:
        StartupError: A file cannot be read.
    """
    return _walked(config, "")


def read_policy(file: Path | None) -> Policy:
    """Return the policy of a file, or the one that holds without.

    Raises:
        StartupError: It cannot be read, or not be obeyed.
    """
    if file is None:
        return Policy()
    try:
        return parse(_read(file))
    except PolicyError as error:
        raise StartupError(f"the audit policy {file} is refused: {error}") from error


def capturing_of(policy: Policy, state_dir: Path) -> Capturing | None:
    """Return what takes down what is said, if the policy says so; its key is made at first use.

    Raises:
        StartupError: The key cannot be read or kept.
    """
    if policy.capture is None:
        return None
    path = state_dir / KEY_FILE
    try:
        if not path.exists():
            files.write_atomically(path, os.urandom(KEY_BYTES), mode=0o600)
        key = path.read_bytes()
    except OSError as error:
        raise StartupError(f"the key of hashes {path} cannot be used: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise StartupError(
            f"expected a key of {KEY_BYTES} bytes in {path}, found {len(key)}: put it back, or"
            " remove it, and earlier hashes can no longer be checked"
        )
    return Capturing(policy.capture, key)


def _walked(part: Any, prefix: str) -> dict[str, object]:  # any of the dataclasses of `config`
    found: dict[str, object] = {}
    for field in dataclasses.fields(part):
        value, name = getattr(part, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            found |= _walked(value, f"{name}.")
        elif isinstance(value, Path):
            digest = hashlib.sha256(_read(value)).hexdigest() if field.name in _CONTENTS else ""
            found[name] = [str(value), digest]
        else:
            found[name] = value
    return found


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise StartupError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise StartupError(f"expected up to {_MOST_BYTES} bytes in {file}, found more")
    return data
