"""The first metadata of the two repositories, made once by `sprat-controller init`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Root, Targets

from sprat_controller.trust.ceremony import ROOT_LIFE, TARGETS_LIFE
from sprat_controller.trust.words import named, seal

THRESHOLD: Final = 2  # of the three keys of each offline role


def found_image(
    root_signers: Mapping[str, Signer],
    targets_signers: Mapping[str, Signer],
    online: tuple[str, Key],
    now: datetime,
) -> dict[str, bytes]:
    """Return `1.root.json` and `1.targets.json` of the image repository.

    Args:
        root_signers: By the names that people call them by.
        targets_signers: The same.
        online: Name and key of snapshot and timestamp.
        now: From when they are good.
    """
    root = Root(expires=_whole(now) + ROOT_LIFE, consistent_snapshot=True)
    _add(root, "root", root_signers)
    _add(root, "targets", targets_signers)
    for role in ("snapshot", "timestamp"):
        root.add_key(named(online[1], online[0]), role)
    targets = Targets(expires=_whole(now) + TARGETS_LIFE)
    return {
        "1.root.json": seal(root, root_signers.values()),
        "1.targets.json": seal(targets, targets_signers.values()),
    }


def found_director(
    root_signers: Mapping[str, Signer], online: tuple[str, Key], now: datetime
) -> dict[str, bytes]:
    """Return `1.root.json` of the director, whose other metadata is made for each device."""
    root = Root(expires=_whole(now) + ROOT_LIFE, consistent_snapshot=False)
    _add(root, "root", root_signers)
    for role in ("targets", "snapshot", "timestamp"):
        root.add_key(named(online[1], online[0]), role)
    return {"1.root.json": seal(root, root_signers.values())}


def _add(root: Root, role: str, signers: Mapping[str, Signer]) -> None:
    for name, signer in signers.items():
        root.add_key(named(signer.public_key, name), role)
    root.roles[role].threshold = THRESHOLD


def _whole(now: datetime) -> datetime:
    """Return the moment in whole seconds: TUF dates have no more."""
    return now.replace(microsecond=0)
