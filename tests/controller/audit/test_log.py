from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sprat_controller.audit import log
from sprat_controller.store.session import Database
from sprat_controller.store.tables import AuditRecord
from sprat_proto.audit_events import Tag

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("subject", "detail", "device", "rollout"),
    [
        ("device/gw-1", {}, "gw-1", None),
        ("rollout/r", {}, None, "r"),
        ("execution/e", {"device": "gw-1", "rollout": "r"}, "gw-1", "r"),
        ("rollout/r", {"rollout": "other", "device": "gw-1"}, "gw-1", "r"),
        ("token/t", {"device": 7, "rollout": ""}, None, None),
        ("devices/gw-1", {}, None, None),
    ],
)
def test_a_record_is_found_by_the_device_and_the_rollout_it_is_about(
    any_database: Database,
    subject: str,
    detail: dict[str, object],
    device: str | None,
    rollout: str | None,
) -> None:
    with any_database.transaction() as session:
        seq = log.append(
            session, Tag.ROLLOUT_CREATED, at=NOW, actor="a", subject=subject, detail=detail
        )
    with any_database.reading() as session:
        row = session.get(AuditRecord, seq)
        assert row is not None
        assert (row.device_id, row.rollout_id) == (device, rollout)
