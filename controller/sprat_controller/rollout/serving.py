"""How a rollout's model is served: as it is asked for, stored, and read again. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from sprat_proto.assignment import AS_DEVICE_DECIDES, ServingTerms


def asked(slots: int, kv_type: Any, *, pinned: bool) -> ServingTerms:
    """Return terms as somebody asks for them; `requests.check_plan` judges them."""
    return ServingTerms(slots=slots, kv_type=kv_type, is_pinned=pinned)


def to_json(terms: ServingTerms) -> dict[str, Any] | None:
    """Return the terms as they stand in `Rollout.serving`."""
    return None if terms == AS_DEVICE_DECIDES else msgspec.to_builtins(terms)


def from_json(stored: dict[str, Any] | None) -> ServingTerms:
    """Return the terms that were stored."""
    return AS_DEVICE_DECIDES if stored is None else msgspec.convert(stored, ServingTerms)
