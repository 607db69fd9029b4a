"""Metadata between the controller and offline keys: fetched, changed, signed here, published."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# The names below are the libraries' documented API; they re-export them without saying so.
# pyright: reportPrivateImportUsage=false
from securesystemslib.signer import Signer
from sprat_proto.trust import IMAGE, Repository
from tuf.api.metadata import Root, Targets

from sprat_controller.cli.client import Api
from sprat_controller.cli.exits import CliError, Exit
from sprat_controller.cli.output import say
from sprat_controller.cli.verbs import Session
from sprat_controller.trust import ceremony
from sprat_controller.trust.folder import Metadata
from sprat_controller.trust.words import is_signed_by, name_of, read, seal


def current(api: Api, repository: Repository) -> Metadata:
    """Return all published metadata of a repository."""
    names = api.metadata_names(repository)
    return Metadata(repository, {name: api.metadata(repository, name) for name in names})


def targets_of(repository: Metadata) -> Targets:
    """Return the newest top-level targets."""
    return read(repository.newest("targets")[1], Targets, "targets").signed


def publish_targets(
    session: Session,
    repository: Metadata,
    signers: Sequence[Signer],
    change: Callable[[Targets], None],
) -> int:
    """Change the top-level targets, sign them and have them published; return their version.

    What is changed is what one of these keys signed before: a controller cannot slip something in.

    Raises:
        CliError: Not the right keys, or not enough of them.
    """
    root = read(repository.newest("root")[1], Root, "root").signed
    role = root.roles["targets"]
    able = [one for one in signers if one.public_key.keyid in role.keyids]
    if len(able) < role.threshold:
        names = ", ".join(name_of(root.keys[key_id]) for key_id in role.keyids)
        raise CliError(
            f"expected {role.threshold} of the keys {names}, found {len(able)} of them", Exit.USAGE
        )
    newest = read(repository.newest("targets")[1], Targets, "targets")
    if not any(is_signed_by(newest, one.public_key) for one in able):
        raise CliError(
            "expected the published targets to be signed by one of these keys, found them signed by"
            " others: compare with `sprat trust lint` before you sign",
            Exit.REFUSED,
        )
    expires = session.around.clock().replace(microsecond=0) + ceremony.TARGETS_LIFE
    following = ceremony.next_targets(newest.signed, expires=expires)
    change(following)
    for line in ceremony.targets_in_words(newest.signed, following):
        say(line)
    data = seal(following, able[: role.threshold])
    session.api.publish_metadata(IMAGE, {f"{following.version}.targets.json": data})
    return following.version
