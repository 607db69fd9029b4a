"""Judging a group's offline statement: whose it is, for whom, and whether it is news. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sprat_proto import bundle
from sprat_proto.bundle import OfflineRole, OfflineStatement
from sprat_proto.canonical import NotCanonicalError
from sprat_proto.signing import SignatureRefusedError, verify

from sprat_agent.bundle.refusal import BundleError


@dataclass(frozen=True)
class Known:
    """What the device knows when it judges.

    Attributes:
        group: Its own, as it was told at enrolment.
        counter: The highest one that it took under the role's keys; 0: none.
        newest_issued: Of the newest plan that it obeyed, unix seconds; 0: none.
        now: Unix seconds, never below the time floor.
        obeyed: What it obeys already; an import that was killed is done again.
    """

    group: str
    counter: int
    newest_issued: int
    now: int
    obeyed: OfflineStatement | None = None


def judged(envelope: bytes, role: OfflineRole, known: Known) -> OfflineStatement:
    """Return the statement if the device may follow it.

    Raises:
        BundleError: It may not; one sentence says why.
    """
    keys = [approver.key for approver in role.keys]
    try:
        signed = verify(envelope, bundle.STATEMENT_TYPE, keys, role.threshold)
        statement = bundle.decode_statement(signed.payload)
    except (SignatureRefusedError, NotCanonicalError) as error:
        raise BundleError(f"the bundle's statement is refused: {error}") from error
    wrong = _why_not_well_made(statement) or _why_not_news(statement, known)
    if wrong:
        raise BundleError(
            f"the bundle's statement {statement.counter} {wrong}: ask for a newer one"
        )
    return statement


def _why_not_well_made(statement: OfflineStatement) -> str:
    if statement.not_after - statement.issued > bundle.MAX_LIFE_S:
        return f"is to be good for longer than {bundle.MAX_LIFE_S // 86400} days"
    if statement.not_after < statement.issued:
        return "is to end before it begins"
    aliases = {one.alias for one in statement.models}
    ids = {one.execution_id for one in statement.models}
    if not len(aliases) == len(ids) == len(statement.models):
        return "names an alias or an execution twice"
    return ""


def _why_not_news(statement: OfflineStatement, known: Known) -> str:
    if statement.group != known.group:
        return f"is for the group {statement.group}, and this device is of {known.group or 'none'}"
    if statement.not_after < known.now:
        return "has expired"
    if statement == known.obeyed:
        return ""
    if statement.counter <= known.counter:
        return f"is not above {known.counter}, which was taken before"
    if statement.issued <= known.newest_issued:
        return "was issued before the plan that this device obeys"
    return ""
