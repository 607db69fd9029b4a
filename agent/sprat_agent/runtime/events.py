"""What audit is to know about models; the journal is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from sprat_proto.audit_events import Tag

from sprat_agent.runtime.hosted import HostedModel
from sprat_agent.sync.ports import ExecutionError

OnEvent: TypeAlias = Callable[[str, str, Mapping[str, object]], None]


class ModelEvents:
    """Says what happens with models, with tag, subject (`model@release+variant`) and details."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    def loaded(self, hosted: HostedModel) -> None:
        """A worker holds the verified model."""
        self._say(
            Tag.MODEL_LOADED, hosted, {"ms": round(hosted.load_ms), "context": hosted.context}
        )

    def refused(self, hosted: HostedModel, error: ExecutionError) -> None:
        """The model was not loaded."""
        reason = {"code": error.code.value, "reason": error.message}
        self._say(
            Tag.MODEL_REFUSED, hosted, {**reason, "expected": error.expected, "found": error.found}
        )

    def unloaded(self, hosted: HostedModel) -> None:
        """The model's worker was ended by us."""
        self._say(Tag.MODEL_UNLOADED, hosted, {})

    def crashed(self, hosted: HostedModel, reason: str) -> None:
        """The model's worker died."""
        self._say(Tag.MODEL_CRASHED, hosted, {"reason": reason})

    def quarantined(self, hosted: HostedModel, crashes: int) -> None:
        """The model crashed too often: it is not started here any more."""
        self._say(Tag.MODEL_QUARANTINED, hosted, {"crashes": crashes})

    def _say(self, tag: str, hosted: HostedModel, details: Mapping[str, object]) -> None:
        one = hosted.loadable
        identity = {"alias": one.alias, "digest": one.digest, "signer": one.signer}
        self._on_event(tag, one.name, {**identity, **details})
