"""The names that applications give to models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sprat_proto.manifest import NO_ADAPTER

from sprat_agent.api.models import Models
from sprat_agent.runtime.faults import ModelNotFoundError
from sprat_agent.runtime.wire import no_adapter
from sprat_agent.sync.ports import Loadable


def split(name: str) -> tuple[str, str]:
    """Return the model and the adapter that a name stands for; no adapter is an empty one.

    `alias:latest` is the alias itself, `alias:adapter` asks for a LoRA of its variant. Names of
    models, releases and variants have no colon (`sprat_proto.manifest`).
    """
    model, _, tag = name.partition(":")
    return model, "" if tag == NO_ADAPTER else tag


def find(models: Models, name: str) -> Loadable:
    """Return the model that a name stands for, with an adapter or without.

    Raises:
        AnswerError: There is no such model or no such adapter of it, or it cannot be asked yet.
    """
    model, adapter = split(name)
    found = models.find(model)
    if adapter and adapter not in found.adapter_names:
        raise ModelNotFoundError(no_adapter(adapter, found.adapter_names))
    return found


def listed(offered: Iterable[tuple[str, Loadable]]) -> Iterator[tuple[str, Loadable]]:
    """Yield each alias, and after it what to ask for to have one of its adapters."""
    for alias, one in offered:
        yield alias, one
        for adapter in one.adapter_names:
            yield f"{alias}:{adapter}", one
