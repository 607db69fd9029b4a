"""Who came to the local API, and how that went: counted by the hour. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sprat_proto.audit_events import Tag

from sprat_agent.audit.sums import Addend


@dataclass(frozen=True)
class Access:
    """One request to the local API.

    Attributes:
        caller: Who came: see `api.asking.caller_of`.
        routes: Which family of routes: openai, ollama, anthropic, agent, health, metrics or other.
        status: The class of what it got: 2xx, 4xx, ...; "none": it left before.
        refused: Why it was not let in, in a word; "" if it was.
    """

    caller: str
    routes: str
    status: str
    refused: str = ""


def addend(one: Access) -> Addend:
    """Return what a request adds to the sum of its hour."""
    names = {"caller": one.caller, "status": one.status, "refused": one.refused}
    return Addend(
        Tag.ACCESS_SUMMED, f"api/{one.routes}", {name: said for name, said in names.items() if said}
    )
