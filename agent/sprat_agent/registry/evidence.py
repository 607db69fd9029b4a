"""What proved an installed version, kept beside it: image metadata, and the time of the proof.

It is verified anew at each load from the pinned root, at the time of the proof and without a
network: a device starts offline for ever, also what was retired meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec
from sprat_proto.assignment import AssignedModel
from sprat_proto.states import ReasonCode

from sprat_agent.registry import metadata
from sprat_agent.registry.metadata import Row
from sprat_agent.registry.named import Named
from sprat_agent.registry.source import MemorySource, SourceError
from sprat_agent.registry.tuf_client import Anchor, MetadataRefusedError, look
from sprat_agent.sync.ports import ExecutionError

_SCHEMA: Final = 1


class _Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    proved_at: int  # unix seconds
    files: dict[str, str]  # metadata by name


def encode(rows: Iterable[Row], proved_at: datetime) -> bytes:
    """Return the evidence as it is kept; of several roles only those that matter need be given."""
    files = {name: data.decode() for name, data in metadata.files(rows).items()}
    return msgspec.json.encode(_Evidence(_SCHEMA, int(proved_at.timestamp()), files))


def named_by(evidence: bytes, wanted: AssignedModel, anchor: Anchor) -> Named | None:
    """Return what the evidence proves that the image repository said; None: it did not name it.

    Raises:
        ExecutionError: METADATA_REFUSED: it does not prove anything.
    """
    try:
        kept = msgspec.json.decode(evidence, type=_Evidence)
        proved_at = datetime.fromtimestamp(kept.proved_at, UTC)
        source = MemorySource({name: text.encode() for name, text in kept.files.items()})
        with look(anchor, (), source, lambda _: proved_at) as seen:
            seen.refresh()
            return seen.named(wanted.path)
    except (
        msgspec.DecodeError,
        UnicodeError,
        ValueError,
        OverflowError,
        OSError,
        MetadataRefusedError,
        SourceError,
    ) as error:
        raise ExecutionError(
            ReasonCode.METADATA_REFUSED,
            f"what proved {wanted.name} when it was installed does not verify any more ({error}):"
            " roll out again",
            expected="metadata from the pinned root on",
            found=str(error),
        ) from error
