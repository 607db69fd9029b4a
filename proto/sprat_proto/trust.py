"""What both sides call things in the two TUF repositories: roles, paths, custom fields. Pure.

The *image* repository says what is released, the *director* who gets what (Uptane's words). A
target of the image repository is a manifest; its path tells whose it is, and the top-level role
delegates each publisher's paths to a terminating role of its own. A director's targets hold the
assignment of one device as their `custom` field, and name each manifest again with the same length,
hash and custom fields: a device takes only what both say (docs/security.md).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from sprat_proto.manifest import Manifest, Name

IMAGE: Final = "image"
DIRECTOR: Final = "director"
Repository: TypeAlias = Literal["image", "director"]

# Who may approve, by group: a target of the image repository's top-level role.
POLICY_PATH: Final = "policy/approvers.json"
_ROLE_PREFIX: Final = "pub-"
# llama.cpp runs on these; a device is one of them by its processor (`hardware_id`).
HARDWARE_IDS: Final = ("cpu-aarch64", "cpu-x86_64")

# What python-tuf's client reads at most, in bytes (tuf.ngclient.UpdaterConfig): metadata above this
# would be refused by every device, so it is refused where it is published.
MAX_ROOT_BYTES: Final = 512_000
MAX_TIMESTAMP_BYTES: Final = 16_384
MAX_SNAPSHOT_BYTES: Final = 2_000_000
MAX_TARGETS_BYTES: Final = 5_000_000
MAX_ROOT_ROTATIONS: Final = 256  # in one refresh; more are walked by refreshing again

HardwareIds: TypeAlias = Annotated[list[Name], Meta(min_length=1, max_length=16)]


class TargetCustom(Struct, frozen=True, forbid_unknown_fields=True):
    """The `custom` field of a manifest's target, equal in both repositories."""

    name: str  # `publisher/model`: what the release counter counts
    release_counter: int
    hardware_ids: list[str]


def publisher_role(publisher: str) -> str:
    """Return the name of a publisher's delegated role."""
    return f"{_ROLE_PREFIX}{publisher}"


def publisher_of_role(role: str) -> str | None:
    """Return whose role it is; None for a role that is no publisher's."""
    return role.removeprefix(_ROLE_PREFIX) if role.startswith(_ROLE_PREFIX) else None


def publisher_paths(publisher: str) -> str:
    """Return the pattern of the paths that a publisher signs for; `*` stops at a slash."""
    return f"m/{publisher}/*/*"


def manifest_path(publisher: str, model: str, release: str, variant: str) -> str:
    """Return the target path of a variant's manifest."""
    return f"m/{publisher}/{model}/{release}+{variant}.json"


def path_of(manifest: Manifest) -> str:
    """Return the target path of a manifest."""
    return manifest_path(manifest.publisher, manifest.model, manifest.release, manifest.variant)


def custom_of(manifest: Manifest) -> TargetCustom:
    """Return the custom field that a manifest's target must have."""
    name = f"{manifest.publisher}/{manifest.model}"
    return TargetCustom(name, manifest.release_counter, list(manifest.hardware_ids))


def hardware_id(arch: str) -> str:
    """Return the hardware id of a device by its processor's architecture (`platform.machine`)."""
    return f"cpu-{'x86_64' if arch in ('x86_64', 'amd64', 'AMD64') else arch}"
