"""The publishers whose models the fleet may run: public keys only."""

from __future__ import annotations

from datetime import datetime

from sprat_proto.manifest import is_model_name
from sprat_proto.signing import KeyFileError, TrustedKey, check_public_pem
from sqlmodel import Session, col, select

from sprat_controller.audit import log
from sprat_controller.audit.tags import Tag
from sprat_controller.errors import ConflictError, RequestError
from sprat_controller.store.tables import Publisher


def add(session: Session, *, name: str, public_pem: str, actor: str, now: datetime) -> Publisher:
    """Make a publisher known.

    Raises:
        RequestError: `bad_name` or `bad_key`.
        ConflictError: `publisher_exists`: the name or the key is known already.
    """
    if not is_model_name(name):
        raise RequestError(
            "bad_name",
            f"expected a publisher's name of a-z, 0-9 and ._- (at most 64), found {name[:80]!r}",
        )
    try:
        key = TrustedKey(name, check_public_pem(public_pem))
    except KeyFileError as error:
        raise RequestError("bad_key", f"the publisher {name}: {error}") from error
    same = (col(Publisher.name) == name) | (col(Publisher.key_id) == key.key_id)
    known = session.exec(select(Publisher).where(same)).first()
    if known is not None:
        raise ConflictError(
            "publisher_exists",
            f"the publisher {known.name} with the key {known.key_id[:12]} is known already:"
            " choose another name and another key",
        )
    row = Publisher(key_id=key.key_id, name=name, public_pem=key.public_pem, created_at=now)
    session.add(row)
    log.append(
        session,
        Tag.PUBLISHER_ADDED,
        at=now,
        actor=actor,
        subject=f"publisher/{name}",
        detail={"key_id": key.key_id},
    )
    return row


def trusted(session: Session) -> list[TrustedKey]:
    """Return the keys of all publishers, by name."""
    rows = session.exec(select(Publisher).order_by(col(Publisher.name)))
    return [TrustedKey(row.name, row.public_pem) for row in rows]
