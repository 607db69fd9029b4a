"""The keys that say whom devices trust: ceremonies in a folder, lint, the approvers' policy.

And the root's word for the next issuer of TLS certificates.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

# The name below is the library's documented API; it re-exports it without saying so.
# pyright: reportPrivateImportUsage=false
from sprat_proto import approval, canonical
from sprat_proto.approval import Approver, ApproverPolicy, PolicyError
from sprat_proto.signing import KeyFileError, check_public_pem
from sprat_proto.trust import IMAGE, POLICY_PATH, Repository
from tuf.api.metadata import Targets

from sprat_controller.cli import words
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.files import read_text, write_new
from sprat_controller.cli.keys import open_private, open_signer, read_public
from sprat_controller.cli.offline import current, publish_targets
from sprat_controller.cli.output import say
from sprat_controller.cli.passphrases import PassphraseFile, passphrase
from sprat_controller.cli.publishers import KeysFolder, SignWith, offline_signers
from sprat_controller.cli.verbs import Session, verb
from sprat_controller.signer import authority
from sprat_controller.trust import ceremony, folder, staging
from sprat_controller.trust.folder import REPOSITORIES
from sprat_controller.trust.lint import Grade, lint
from sprat_controller.trust.staging import Wanted

trust = typer.Typer(help="Keys of the repositories: ceremonies and lint.", rich_markup_mode=None)
policy = typer.Typer(help="Who must approve changes of which devices.", rich_markup_mode=None)
FAST_FORWARD = "fast-forward"
NOBODY = "nobody"

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The ceremony's folder.")]
Pairs = list[str] | None


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.add_typer(trust, name="trust")
    trust.add_typer(policy, name="policy")


@verb(trust, "fetch", example="sprat trust fetch /media/stick")
def fetch(session: Session, place: Folder) -> None:
    """Write all published metadata of both repositories into a folder."""
    fetched: dict[str, int] = {}
    for name in REPOSITORIES:
        metadata = current(session.api, name)
        folder.check_unchanged(place, metadata)
        folder.save(place, metadata)
        fetched[name] = len(metadata.files)
    session.output.one({"folder": str(place), **fetched}, {"folder": str(place), **fetched})


@verb(
    trust,
    "ceremony",
    example="sprat trust ceremony /media/stick --replace image-root-2=new-2.pub",
    connects=False,
)
def hold(
    session: Session,
    place: Folder,
    *,
    replace: Annotated[
        Pairs, typer.Option(metavar="KEY=FILE.pub", help="A key by name or id; repeatable.")
    ] = None,
    rotate: Annotated[
        Pairs, typer.Option(metavar="ROLE=FILE.pub", help="image-online or director-online.")
    ] = None,
    threshold: Annotated[
        Pairs, typer.Option(metavar="ROLE=N", help="Such as image-root=2; repeatable.")
    ] = None,
    publisher: Annotated[
        Pairs, typer.Option(metavar="NAME=FILE.pub", help="A publisher's new key; repeatable.")
    ] = None,
    offline_role: Annotated[
        Pairs,
        typer.Option(
            metavar="NAME=FILE.pub",
            help="All who may sign bundles for groups, 2 at a time; repeatable. Or: nobody.",
        ),
    ] = None,
    renew: Annotated[
        Pairs, typer.Option(metavar="REPOSITORY", help="Sign this root anew: image or director.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Of roots. Default: in three years.")
    ] = None,
    emergency: Annotated[
        str | None, typer.Option(metavar=FAST_FORWARD, help="A thief drove versions up.")
    ] = None,
) -> None:
    """Stage the next metadata and say in words what it changes and who must sign it."""
    if emergency not in (None, FAST_FORWARD):
        raise words.wrong(f"expected --emergency {FAST_FORWARD}, found {emergency!r}")
    published = folder.load(place)
    wanted = Wanted(
        replacements=[
            staging.replacement(published, text, read_public(file), _name_of(file))
            for text, file in _files([*(replace or []), *(rotate or [])])
        ],
        thresholds=[_threshold(text) for text in threshold or []],
        roots=[_repository(text) for text in renew or []],
        publishers={
            words.name(name, "a publisher's name"): read_public(file)
            for name, file in _files(publisher or [])
        },
        offline=_people(offline_role) if offline_role else None,
        expires=_day(expires) if expires else None,
        after_fast_forward=emergency is not None,
    )
    plan = staging.plan(published, wanted, session.around.clock())
    shutil.rmtree(place / "staged", ignore_errors=True)
    for metadata in plan.files.values():
        folder.stage(place, metadata)
    (place / "staged" / "plan.txt").write_text("\n".join([*plan.words, ""]), encoding="utf-8")
    files = {name: sorted(metadata.files) for name, metadata in plan.files.items()}
    session.output.rows(
        ("plan",), [[line] for line in plan.words], {"plan": list(plan.words), "staged": files}
    )


@verb(
    trust,
    "sign",
    example="sprat trust sign /media/stick --key image-root-1.pem",
    connects=False,
)
def sign(
    session: Session,
    place: Folder,
    *,
    key: Annotated[str, typer.Option(metavar="KEY", help="FILE.pem or pkcs11:…")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Add the signature of one key to what is staged; on its holder's own machine."""
    published, staged = folder.load(place), folder.load_staged(place)
    signer = open_signer(key, passphrase(session, passphrase_file))
    signed = staging.sign(published, staged, signer)
    for metadata in signed.values():
        folder.stage(place, metadata)
    files = [f"{name}/{file}" for name, one in signed.items() for file in sorted(one.files)]
    missing = staging.missing(published, folder.load_staged(place))
    session.output.one(
        {"signed": ", ".join(files), "missing": "; ".join(missing) or "nothing"},
        {"signed": files, "missing": missing},
    )


@verb(trust, "lint", example="sprat trust lint /media/stick", connects=False)
def lint_folder(session: Session, place: Folder) -> None:
    """Judge all that is published as a device would; exit status 6 if something is wrong."""
    now = session.around.clock()
    found = [one for metadata in folder.load(place).values() for one in lint(metadata, now)]
    items = [
        {
            "grade": one.grade.value,
            "check": one.check,
            "subject": one.subject,
            "sentence": one.sentence,
        }
        for one in found
    ]
    columns = ("grade", "check", "subject", "sentence")
    session.output.rows(
        columns, [[item[column] for column in columns] for item in items], {"items": items}
    )
    if any(one.grade is Grade.FAILED for one in found):
        raise typer.Exit(Exit.REFUSED)


@verb(trust, "publish", example="sprat trust publish /media/stick")
def publish(session: Session, place: Folder) -> None:
    """Publish what is staged, once all signatures are there."""
    published, staged = folder.load(place), folder.load_staged(place)
    waiting = staging.missing(published, staged)
    if waiting:
        raise CliError(f"signatures are missing: {'; '.join(waiting)}", Exit.REFUSED)
    sent = [metadata for metadata in staged.values() if metadata.files]
    if not sent:
        raise CliError(f"nothing is staged in {place}: see `sprat trust ceremony`")
    for metadata in sent:
        session.api.publish_metadata(metadata.repository, metadata.files)
        shutil.rmtree(place / "staged" / metadata.repository)
        folder.save(place, current(session.api, metadata.repository))
        say(f"published {metadata.repository}: {', '.join(sorted(metadata.files))}")
    files = {metadata.repository: sorted(metadata.files) for metadata in sent}
    session.output.one({name: ", ".join(one) for name, one in files.items()}, files)


@verb(
    trust,
    "certify-issuer",
    example=(
        "sprat trust certify-issuer ca-issuer.next.pub --ca ca.pem --key ca-root.pem"
        " --out ca-issuer.next.crt.pem"
    ),
    connects=False,
)
def certify_issuer(
    session: Session,
    public: Annotated[
        Path, typer.Argument(metavar="FILE.pub", help="From `sprat-signer new-key ca-issuer`.")
    ],
    *,
    ca: Annotated[Path, typer.Option(metavar="FILE", help="The root's certificate, ca.pem.")],
    key: Annotated[str, typer.Option(metavar="KEY", help="The root's: FILE.pem or pkcs11:…")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The certificate, to be written.")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Certify the next issuer of TLS certificates; on the machine of the root's holder."""
    following, root = _issuer_key(public), _root(ca, session.around.clock())
    root_key = open_private(key, passphrase(session, passphrase_file))
    if not (
        isinstance(root_key, ec.EllipticCurvePrivateKey)
        and root_key.public_key() == root.public_key()
    ):
        raise CliError(f"{key} is not the private key of the root in {ca}", Exit.REFUSED)
    if following == root_key.public_key():
        raise CliError(f"{public} is the root's own key: give the issuer's next one", Exit.REFUSED)
    made = authority.make_issuer(root, root_key, following, session.around.clock())
    write_new(out, made.public_bytes(Encoding.PEM), "certificate")
    shown = {"certificate": str(out), "expires_at": made.not_valid_after_utc.isoformat()}
    session.output.one(shown, shown)


@verb(policy, "set", example="sprat trust policy set approvers.json --keys /media/stick")
def set_policy(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Approvers and groups, JSON.")],
    *,
    keys: KeysFolder = None,
    sign_with: SignWith = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Say who approves changes of which devices; signed by the offline keys."""
    content = _policy(file)
    signers = offline_signers(session, keys, sign_with, passphrase_file)
    repository = current(session.api, IMAGE)
    session.api.put_bytes(canonical.sha256_hex(content), content)

    def change(targets: Targets) -> None:
        ceremony.set_policy(targets, POLICY_PATH, content)

    version = publish_targets(session, repository, signers, change)
    made = {"sha256": canonical.sha256_hex(content), "targets": version}
    session.output.one(made, made)


def _files(pairs: Sequence[str]) -> list[tuple[str, Path]]:
    """Take NAME=FILE apart."""
    taken = [pair.partition("=") for pair in pairs]
    for name, equals, file in taken:
        if not (name and equals and file):
            raise words.wrong(f"expected NAME=FILE.pub, found {name + equals + file!r}")
    return [(name, Path(file)) for name, _, file in taken]


def _people(given: Sequence[str]) -> list[Approver]:
    """Return who is to speak to groups by bundle; none for `nobody`."""
    if list(given) == [NOBODY]:
        return []
    return [
        Approver(words.name(name, "a person's name"), _ed25519_pem(file))
        for name, file in _files(given)
    ]


def _ed25519_pem(file: Path) -> str:
    """Return a public key as statements are verified with; of another kind they cannot be.

    Raises:
        CliError: It is none.
    """
    read_public(file)  # says of a private key that it is one
    try:
        return check_public_pem(read_text(file, "public key"))
    except KeyFileError as error:
        raise CliError(f"the key {file}: {error}", Exit.REFUSED) from error


def _name_of(file: Path) -> str:
    """Return what people will call a key: its file's name, without what `new-key` adds to it."""
    return file.stem.removesuffix(".next")


def _threshold(text: str) -> ceremony.Threshold:
    role, _, number = text.partition("=")
    if not number.isdecimal():
        raise words.wrong(f"expected ROLE=N such as image-root=2, found {text!r}")
    return ceremony.Threshold(role, int(number))


def _repository(text: str) -> Repository:
    for name in REPOSITORIES:
        if name == text:
            return name
    raise words.wrong(f"expected image or director, found {text!r}")


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise words.wrong(f"expected a day such as 2029-12-31, found {text!r}") from error


def _issuer_key(file: Path) -> ec.EllipticCurvePublicKey:
    """Return the issuer's next public key.

    Raises:
        CliError: It is none, or not P-256.
    """
    read_public(file)
    key = load_pem_public_key(read_text(file, "public key").encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CliError(
            f"expected a P-256 key in {file}, as `sprat-signer new-key ca-issuer` makes it, found"
            f" {type(key).__name__}",
            Exit.REFUSED,
        )
    return key


def _root(file: Path, now: datetime) -> x509.Certificate:
    """Return the root's certificate.

    Raises:
        CliError: It is none, or has ended.
    """
    try:
        found = x509.load_pem_x509_certificate(read_text(file, "certificate").encode())
    except ValueError as error:
        raise CliError(f"expected a certificate in {file}: {error}") from error
    if found.not_valid_after_utc <= now:
        ended = found.not_valid_after_utc.date().isoformat()
        raise CliError(f"the root in {file} ended on {ended}: nothing can follow it", Exit.REFUSED)
    return found


def _policy(file: Path) -> bytes:
    """Return the policy in a file in its canonical form.

    Raises:
        CliError: It is none.
    """
    try:
        data = read_text(file, "policy").encode()
        policy = msgspec.json.decode(data, type=ApproverPolicy)
        approval.check_policy(policy)
    except (msgspec.DecodeError, PolicyError) as error:
        raise CliError(f"the policy {file}: {error}", Exit.REFUSED) from error
    return approval.encode_policy(policy)
