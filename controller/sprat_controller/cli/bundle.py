"""Bundles: bring models to devices without a network, on a stick.

A named device gets its ordinary plan. For a whole group the word comes from two people who hold
offline keys: one drafts a statement, each signs it on a machine of their own, and whoever exports
only carries it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from sprat_proto import bundle, canonical, manifest, signing
from sprat_proto.assignment import AS_DEVICE_DECIDES, AT_ANY_TIME, AssignedModel, Policy
from sprat_proto.bundle import OfflineStatement
from sprat_proto.canonical import NotCanonicalError

from sprat_controller.bundle.write import WrongBlobError, write
from sprat_controller.cli import policy, words
from sprat_controller.cli.approving import served, when
from sprat_controller.cli.client import Api, Json
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.files import read_text
from sprat_controller.cli.output import say, size, text
from sprat_controller.cli.passphrases import PassphraseFile, passphrase
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.publisher.signing import load_key

bundles = typer.Typer(help="Carry models to devices without a network.", rich_markup_mode=None)

DAY_S: Final = 86400
MAX_DAYS: Final = bundle.MAX_LIFE_S // DAY_S
Draft = Annotated[Path, typer.Argument(metavar="STATEMENT", help="From bundle state.")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="What to write.")]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(bundles, name="bundle")


@verb(bundles, "export", example="sprat bundle export --device gw-7 --out gw-7.sprat")
def export(
    session: Session,
    *,
    out: Out,
    device: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="For this device; repeatable.")
    ] = None,
    statement: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For the group of this signed statement.")
    ] = None,
) -> None:
    """Write one file with all that devices need: metadata, plans or a statement, and models."""
    if bool(device) == (statement is not None):
        raise words.wrong("expected either --device or --statement, found both or neither")
    body: Json = {"devices": [words.device(one) for one in device or []]}
    if statement is not None:
        body = {"statement": read_text(statement, "statement")}
    small, blobs = _members(session.api.post("bundles", body))
    try:
        total = write(out, small, blobs, session.api.read_blob)
    except WrongBlobError as error:
        raise CliError(str(error), Exit.REFUSED) from error
    except OSError as error:
        raise CliError(f"the bundle {out} cannot be written: {error.strerror}") from error
    made = {"file": str(out), "bytes": total, "members": len(small), "blobs": len(blobs)}
    session.output.one({**made, "bytes": size(total)}, made)


@verb(
    bundles,
    "state",
    example="sprat bundle state --group lyon --alias assistant --release qwen3-0.6b@1.3.0"
    " --variant q4_0 --out lyon.json",
)
def state(
    session: Session,
    *,
    group: Annotated[str, typer.Option(help="Of devices, as their claims say.")],
    alias: Annotated[str, typer.Option(help="The name that applications ask for.")],
    release: Annotated[str, typer.Option(metavar="MODEL@RELEASE")],
    variant: Annotated[str, typer.Option(help="One for the whole group.")],
    out: Out,
    context: Annotated[
        int, typer.Option(min=64, max=1 << 20, help="Tokens to reserve memory for.")
    ] = 2048,
    days: Annotated[int, typer.Option(min=1, max=MAX_DAYS, help="How long it is good for.")] = 30,
    approval: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An approval (DSSE) that devices ask for; repeatable."),
    ] = None,
) -> None:
    """Draft what the devices of a group are to run; nobody has signed it yet."""
    now = int(session.around.clock().timestamp())
    words.name(group, "a group")
    wanted = _assigned(session.api, words.name(alias, "an alias"), release, variant, now)
    made = OfflineStatement(
        schema=bundle.SCHEMA,
        group=group,
        counter=now,
        issued=now,
        not_after=now + days * DAY_S,
        models=[wanted],
        policy=Policy(context=context),
        approvals=[read_text(path, "approval") for path in approval or []],
    )
    _save(out, signing.unsigned(bundle.encode_statement(made), bundle.STATEMENT_TYPE))
    _tell(made)


@verb(bundles, "sign", example="sprat bundle sign lyon.json --key offline-1.pem", connects=False)
def sign(
    session: Session,
    statement: Draft,
    *,
    key: Annotated[Path, typer.Option(help="An offline key that the director's root names.")],
    passphrase_file: PassphraseFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Add a signature to a statement, after a look at what it says; needs no network."""
    signer = load_key(key, passphrase(session, passphrase_file))
    draft = read_text(statement, "statement")
    payload, said = _payload(draft)
    _tell(said)
    session.confirm("Sign exactly this?", yes=yes)
    signature = signer.sign(payload, bundle.STATEMENT_TYPE)
    _save(statement, signing.merge([draft.encode(), signature]))


def _members(found: Json) -> tuple[list[tuple[str, bytes]], list[tuple[str, int]]]:
    """Return the small members and the blobs of a bundle, as the controller says."""
    try:
        small = [(str(one["name"]), base64.b64decode(one["data"])) for one in found["members"]]
        blobs = [(str(one["sha256"]), int(one["size"])) for one in found["blobs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CliError(
            "expected what a bundle is made of, found another answer: is the controller older?"
        ) from error
    for name in (*(name for name, _ in small), *(bundle.blob_name(one) for one, _ in blobs)):
        if bundle.rank(name) is None:
            raise CliError(f"expected members of a bundle, found {name!r}", Exit.REFUSED)
    return small, blobs


def _assigned(api: Api, alias: str, release: str, variant: str, now: int) -> AssignedModel:
    """Return the variant as it stands in a statement, read from the manifest itself."""
    model, version = words.model_release(release)
    found = api.get(f"models/{model}/releases/{version}")
    variants: list[Json] = found.get("variants") or []
    digests = [str(one.get("digest")) for one in variants if one.get("variant") == variant]
    if not digests:
        known = ", ".join(str(one.get("variant")) for one in variants) or "none"
        raise CliError(f"{release} has no variant {variant!r}, only {known}")
    data = b"".join(api.read_blob(digests[0], manifest.MAX_MANIFEST_BYTES))
    if canonical.sha256_hex(data) != digests[0]:
        raise CliError(f"expected the manifest {digests[0]}, found other bytes", Exit.REFUSED)
    read = manifest.decode(data)
    return AssignedModel(
        alias=alias,
        publisher=read.publisher,
        model=read.model,
        release=read.release,
        variant=read.variant,
        digest=digests[0],
        size=len(data),
        execution_id=f"offline-{now}-{alias}",
        rollout_id=f"offline-{now}",
    )


def _payload(draft: str) -> tuple[bytes, OfflineStatement]:
    try:
        payload = base64.b64decode(json.loads(draft)["payload"], validate=True)
        return payload, bundle.decode_statement(payload)
    except (ValueError, KeyError, TypeError, NotCanonicalError) as error:
        raise CliError(
            f"expected a statement of `sprat bundle state`, found something else: {error}",
            Exit.REFUSED,
        ) from error


def _tell(said: OfflineStatement) -> None:
    for line in _in_words(said):
        say(text(line))


def _in_words(said: OfflineStatement) -> Iterator[str]:
    yield f"group     {said.group}, statement {said.counter}"
    for one in said.models:
        yield f"runs      {one.alias}: {one.publisher}/{one.name}, sha256 {one.digest}"
        if one.terms != AS_DEVICE_DECIDES:
            yield f"served    {served(one.terms)}"
        if one.fit_policy is not None:
            yield f"policy    {policy.in_words(one.fit_policy)}"
        if one.times != AT_ANY_TIME:
            yield f"when      {when(one.times)}"
    if not said.models:
        yield "runs      nothing: every alias is removed"
    yield f"context   {said.policy.context} tokens"
    yield f"good      from {_moment(said.issued)} until {_moment(said.not_after)}"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="minutes")


def _save(path: Path, envelope: bytes) -> None:
    try:
        path.write_bytes(envelope)
    except OSError as error:
        raise CliError(f"the statement {path} cannot be written: {error.strerror}") from error
