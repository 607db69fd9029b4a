"""What an approver sees of a rollout, and signs: the frozen specification, in words.

The controller may be in the wrong hands. So what is shown is read from the bytes that are signed,
and a variant's name from the manifest that its digest proves, not from what the controller says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sprat_proto import approval, canonical, manifest
from sprat_proto.approval import RolloutSpec
from sprat_proto.assignment import ServingTerms, Windows, policy_of, terms_of, windows_of
from sprat_proto.canonical import NotCanonicalError
from sprat_proto.signing import SigningKey
from sprat_proto.windows import WindowSpec

from sprat_controller.cli import policy
from sprat_controller.cli.client import Api, Json
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.output import size
from sprat_controller.rollout import signed_strategy, strategy_words
from sprat_controller.rollout.signed_strategy import NotSignedError
from sprat_controller.rollout.strategy import Strategy


@dataclass(frozen=True)
class Frozen:
    """A specification, the very bytes of it, and the strategy that it binds."""

    data: bytes
    spec: RolloutSpec
    strategy: Strategy


def frozen(answer: Json, rollout_id: str) -> Frozen:
    """Return what is to be approved.

    The digest of the strategy is reckoned here, from the document that is then shown.

    Raises:
        CliError: The rollout was not submitted, the answer is of another one, or the strategy is
            not the one that the specification binds.
    """
    text = answer.get("spec")
    if not isinstance(text, str):
        raise CliError(
            f"the rollout {rollout_id} is {answer.get('state')} and waits for no approval",
            Exit.CONFLICT,
        )
    try:
        spec = approval.decode(text.encode())
    except NotCanonicalError as error:
        raise CliError(f"nothing was signed: {error}", Exit.REFUSED) from error
    if spec.rollout_id != rollout_id:
        raise CliError(
            f"expected the specification of rollout {rollout_id}, found that of {spec.rollout_id}:"
            " nothing was signed",
            Exit.REFUSED,
        )
    shown = answer.get("strategy")
    if not isinstance(shown, str):
        raise CliError(
            f"expected how the rollout {rollout_id} proceeds from the controller, found nothing of"
            " it: nothing was signed; update the controller",
            Exit.REFUSED,
        )
    try:
        strategy = signed_strategy.read(spec, shown)
    except NotSignedError as error:
        raise CliError(f"nothing was signed: {error}", Exit.REFUSED) from error
    return Frozen(text.encode(), spec, strategy)


def in_words(api: Api, found: Frozen) -> Iterator[str]:
    """Yield what is to be approved, line by line: the specification, and the strategy it binds.

    Raises:
        CliError: The controller cannot show what a digest stands for.
    """
    spec = found.spec
    yield f"rollout   {spec.rollout_id}, asked for by {spec.requested_by}"
    yield f"alias     {spec.alias}"
    for digest in spec.digests:
        yield f"brings    {_variant(api, digest)}"
    if not spec.digests:
        yield "brings    nothing: the alias is removed"
    yield f"groups    {', '.join(spec.groups)}"
    yield f"context   {spec.context} tokens"
    yield f"served    {served(terms_of(spec.serving))}"
    asked = policy_of(spec.policy)
    yield f"policy    {policy.in_words(asked)}"
    yield f"when      {when(windows_of(spec.windows))}"
    yield f"at once   {spec.max_in_progress or 'all'} devices"
    yield f"proceeds  {strategy_words.in_words(found.strategy)}"
    yield f"runs      {f'until {_moment(spec.run_until)}' if spec.run_until else 'for ever'}"
    yield f"good      until {_moment(spec.not_after)}"


def served(terms: ServingTerms) -> str:
    """Return how a model is served, in words."""
    slots = f"{terms.slots} slots" if terms.slots else "slots as the device decides"
    pinned = ", pinned" if terms.is_pinned else ""
    return f"{slots}, keys and values {terms.kv_type}{pinned}"


def when(windows: Windows) -> str:
    """Return when devices may bring a model in, in words."""
    if windows.override:
        return "at any time: it is an emergency"
    spans = (("downloads", windows.download), ("activates", windows.activate))
    said = [f"{what} by {_window(spec)}" for what, spec in spans if spec is not None]
    said += [f"not before {_moment(windows.not_before)}"] if windows.not_before else []
    said += [f"installed before {_moment(windows.deadline)}"] if windows.deadline else []
    return ", ".join(said) or "at any time"


def _window(spec: WindowSpec) -> str:
    return f"{spec.cron!r} in {spec.zone} for {spec.duration_s // 60} min"


def body(found: Frozen, key: SigningKey | None) -> Json:
    """Return the approval to send: with a signature if there is a key."""
    envelope = key.sign(found.data, approval.PAYLOAD_TYPE).decode() if key else ""
    return {"spec_sha256": canonical.sha256_hex(found.data), "envelope": envelope}


def _variant(api: Api, digest: str) -> str:
    data = b"".join(api.read_blob(digest, manifest.MAX_MANIFEST_BYTES))
    if canonical.sha256_hex(data) != digest:
        raise CliError(
            f"expected the manifest {digest[:12]} from the controller, found other bytes: nothing"
            " was signed",
            Exit.REFUSED,
        )
    read = manifest.decode(data)
    total = sum(length for _, length in read.blobs())
    return f"{read.publisher}/{read.name}, {size(total)}, sha256 {digest}"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="minutes")
