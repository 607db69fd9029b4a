"""The models of a report: what their manifests say, who published and who verified them. Pure.

A manifest is named by the SHA-256 of its bytes, and so it is in the records: what it says was said
by whoever signed the release, before any device had it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from sprat_proto import canonical

from sprat_controller.report.record import Json, Record, cite, mapping, number, text
from sprat_controller.report.updates import Releases

_MEASURES: Final = ("perplexity_milli", "kl_nano", "loss_ppm", "same_top_ppm", "tokens")
_TEXTS: Final = ("reference", "text_sha256")


def statement(
    digest: str, manifest: bytes | None, releases: Releases, signers: Mapping[str, Record]
) -> Json:
    """Return the statement about a variant.

    Args:
        digest: Of its manifest.
        manifest: Its bytes; None, or others: nothing is said out of it.
        releases: What was published.
        signers: Whose signature devices verified, each with the first record that says so.
    """
    published = releases.variants.get(digest)
    retired = releases.retired.get(published.release) if published else None
    is_there = manifest is not None and canonical.sha256_hex(manifest) == digest
    said = _said(manifest) if manifest is not None and is_there else {}
    return {
        "records": cite(published.published if published else None, retired, *signers.values()),
        "digest": digest,
        "manifest": f"manifests/{digest}.json" if said else "",
        "model": published.name if published else text(said.pop("name", "")),
        "publisher": published.publisher if published else "",
        "published_at": published.published.ts if published else "",
        "published_by": published.published.actor if published else "",
        "retired_at": retired.ts if retired else "",
        "signatures_verified": sorted(signers),
        "licence": text(said.get("licence")),
        "evaluation": mapping(said.get("evaluation")),
    }


def _said(manifest: bytes) -> Json:
    decoded: Any = msgspec.json.decode(manifest)
    whole = cast("Json", decoded) if isinstance(decoded, dict) else {}
    judged = mapping(whole.get("evaluation"))
    measures: Json = {name: number(judged[name]) for name in _MEASURES if name in judged}
    texts = {name: text(judged[name]) for name in _TEXTS if name in judged}
    return {
        "name": f"{text(whole.get('model'))}@{text(whole.get('release'))}"
        f"+{text(whole.get('variant'))}",
        "licence": text(mapping(whole.get("facts")).get("licence")),
        "evaluation": measures | texts,
    }
