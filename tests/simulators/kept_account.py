"""An account of the local API that a test reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sprat_agent.audit.access import Access
from sprat_agent.audit.capture import Capturing
from sprat_agent.audit.inference import Inference


@dataclass
class KeptAccount:
    """Keeps all that it is told; see `api.account.Account`."""

    capturing: Capturing | None = None
    inferences: list[Inference] = field(default_factory=list[Inference])
    contents: list[Mapping[str, Any] | None] = field(default_factory=list[Mapping[str, Any] | None])
    accesses: list[Access] = field(default_factory=list[Access])

    def inferred(self, one: Inference, content: Mapping[str, object] | None) -> None:
        """Keep it."""
        self.inferences.append(one)
        self.contents.append(content)

    def accessed(self, one: Access) -> None:
        """Keep it."""
        self.accesses.append(one)
