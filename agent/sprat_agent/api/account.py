"""Who is told what the local API did; `audit.accounts.Accounts` is them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sprat_agent.audit.access import Access
from sprat_agent.audit.capture import Capturing
from sprat_agent.audit.inference import Inference


class Account(Protocol):
    """Takes what is to go on record; nothing of it waits for the disk."""

    @property
    def capturing(self) -> Capturing | None:
        """What takes down what is said; None: nothing may."""
        ...

    def inferred(self, one: Inference, content: Mapping[str, object] | None) -> None:
        """Take one request to a model, at its end."""
        ...

    def accessed(self, one: Access) -> None:
        """Take one request to the local API."""
        ...


class Nobody:
    """Keeps no account."""

    capturing = None

    def inferred(self, one: Inference, content: Mapping[str, object] | None) -> None:
        """Forget it."""

    def accessed(self, one: Access) -> None:
        """Forget it."""
