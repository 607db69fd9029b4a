"""A release's variants as lines: what each is, what it lost, and how large it is."""

from __future__ import annotations

from typing import Any, Final

from sprat_controller.cli.client import Json
from sprat_controller.cli.exits import CliError
from sprat_controller.cli.output import Cell, size
from sprat_controller.publisher.evaluate.table import percent
from sprat_controller.registry.size_class import size_class

# The digest last: it is what folds where there is little room.
COLUMNS: Final = (
    "variant",
    "size",
    "bits",
    "loss",
    "perplexity",
    "class",
    "licence",
    "adapters",
    "digest",
)


def row(variant: Json) -> list[Cell]:
    """Return a variant as a line; its manifest tells all but the digest.

    Raises:
        CliError: There is no manifest, or one of another form.
    """
    try:
        manifest = variant["manifest"]
        facts, measured = manifest["facts"], manifest.get("evaluation")
        adapters = [one["name"] for one in manifest.get("adapters") or ()]
        return [
            variant.get("variant"),
            size(sum(shard["size"] for shard in manifest["shards"])),
            f"{facts['weights_bytes'] * 8 / max(facts['parameters'], 1):.2f}",  # a weight
            *_quality(measured),
            size_class(facts["parameters"]).value,
            facts.get("licence") or None,
            ", ".join(adapters) or None,
            variant.get("digest"),
        ]
    except (KeyError, TypeError) as error:
        raise CliError(
            "expected variants with their manifests: is the controller older?"
        ) from error


def _quality(measured: Any) -> list[Cell]:
    if not measured:
        return [None, None]
    return [percent(measured["loss_ppm"] / 1e6), f"{measured['perplexity_milli'] / 1000:.3f}"]
