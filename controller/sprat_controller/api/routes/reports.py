"""Reports for those who ask for evidence, out of the audit logs and with the proof attached."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Annotated, Final, cast

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from sprat_controller.access import scopes
from sprat_controller.access.actor import Actor
from sprat_controller.access.policy import Permission
from sprat_controller.access.scopes import EVERYTHING, Scope
from sprat_controller.api.answers import contents
from sprat_controller.api.auth import AskingPart, require, while_allowed
from sprat_controller.api.errors import error_answers
from sprat_controller.api.parts import AllParts
from sprat_controller.api.routes.audit_proofs import newest
from sprat_controller.api.schema import Answered
from sprat_controller.errors import RequestError, UnavailableError
from sprat_controller.fleet import inventory
from sprat_controller.report import archive
from sprat_controller.report.archive import Sources
from sprat_controller.report.compose import Question, TooLargeError
from sprat_controller.report.frameworks import STANDARDS, Framework
from sprat_controller.signer.port import SignerError
from sprat_controller.store.queries import AuditFilter

router = APIRouter(prefix="/reports", tags=["audit"])
Auditor = Annotated[Actor, Depends(require(Permission.READ_AUDIT))]

_ZIP: Final = "application/zip"
_IN_MEMORY: Final = 8 << 20
_CHUNK: Final = 1 << 20


class ReportClause(Answered):
    """A clause, and which tables of a report are evidence for it."""

    clause: str
    about: str
    tables: list[str]


class ReportKind(Answered):
    """What a report may be for."""

    framework: Framework
    title: str
    clauses: list[ReportClause]


class ReportKinds(Answered):
    """All of them."""

    items: list[ReportKind]
    next: None = None


@router.get("")
def list_reports(_: Auditor) -> ReportKinds:
    """Which reports there are, and what each has for which clause."""
    return ReportKinds(
        items=[
            ReportKind(
                framework=framework,
                title=one.title,
                clauses=[
                    ReportClause(clause=it.number, about=it.about, tables=list(it.tables))
                    for it in one.clauses
                ],
            )
            for framework, one in STANDARDS.items()
        ]
    )


@router.get(
    "/{framework}",
    response_class=StreamingResponse,
    responses=contents(_ZIP) | error_answers(400, 404, 409, 422, 503),
)
def make_report(
    framework: Framework,
    auditor: Auditor,
    asking: AskingPart,
    *,
    parts: AllParts,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    device: Annotated[str | None, Query(max_length=300)] = None,
    filter_: Annotated[str | None, Query(alias="filter", max_length=4096)] = None,
) -> StreamingResponse:
    """A report as a zip file: a page, the same as JSON, and the logs that prove it.

    It is about all that the asker may see, or about some devices of it: what concerns them, the
    rollouts that have one of them, and releases.
    """
    if since is not None and until is not None and until <= since:
        raise RequestError("bad_period", "expected `until` after `since`, found no time between")
    scope = auditor.scope(Permission.READ_AUDIT)
    with parts.database.reading() as session:
        if device is not None:
            inventory.find(session, device, scope)
        policy = parts.rollouts.approvers(session)
    wanted = AuditFilter(within=scope, concerning=_concerning(device, filter_))
    try:
        key = parts.checkpoints.key()
    except SignerError as error:
        raise UnavailableError(error.code, error.message) from error
    sees_people = auditor.held(Permission.READ_USERS) is not None
    sources = Sources(parts.database, key, newest(parts), policy, wanted, sees_people)
    question = Question(framework, parts.clock(), since, until, wanted.said())
    made = cast("IO[bytes]", tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 - `_read` does
    try:
        archive.write(made, sources, question)
    except BaseException as error:
        made.close()
        if isinstance(error, TooLargeError):
            raise RequestError("report_too_large", str(error)) from error
        raise
    chunks = while_allowed(asking, auditor, Permission.READ_AUDIT, _read(made))
    name = f"sprat-{framework}.zip"
    headers = {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="{name}"',
    }
    return StreamingResponse(chunks, media_type=_ZIP, headers=headers)


def _concerning(device: str | None, filter_: str | None) -> Scope:
    scope = EVERYTHING if filter_ is None else scopes.read(filter_)
    return scope if device is None else scope.narrowed(scopes.read(f"device = {device}"))


def _read(made: IO[bytes]) -> Iterator[bytes]:
    with made:
        made.seek(0)
        while chunk := made.read(_CHUNK):
            yield chunk
