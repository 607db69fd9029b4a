"""The tags have moved: see `sprat_proto.audit_events`."""

from __future__ import annotations

from sprat_proto.audit_events import Tag

__all__ = ["Tag"]
