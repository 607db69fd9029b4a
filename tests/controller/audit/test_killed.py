"""Killed at any time, the audit log is whole, signed, and elsewhere without a gap."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from simulators.audited import BEGIN, OF_A_TURN, STEPS, TURN
from simulators.log_receivers import StreamReceiver
from simulators.view_readers import read_syslog
from sprat_controller.audit import exporting
from sprat_controller.audit.checkpoints import Checkpoints
from sprat_controller.audit.export import Result, verify
from sprat_controller.audit.verify import verify_controller
from sprat_controller.config import DataFolder
from sprat_controller.initialise import initialise
from sprat_controller.signer.folder import SignerFolder
from sprat_controller.store.session import Database, sqlite_url
from sprat_controller.store.tables import AuditForwarding
from sqlmodel import select

KILLS = 6
TESTS = Path(__file__).parents[2]


def work_until_killed(folder: DataFolder, port: int, steps: int) -> None:
    """Kill it somewhere in the step after so many."""
    command = [sys.executable, "-m", "simulators.audited", str(folder.path), str(port)]
    working = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TESTS)
    assert working.stdout is not None
    for _ in range(steps):
        assert working.stdout.readline(), "it ended by itself"
    working.kill()
    working.communicate()


def test_a_log_whose_controller_is_killed_at_work_is_whole_signed_and_elsewhere(
    tmp_path: Path,
) -> None:
    folder, receiver = DataFolder(tmp_path / "data"), StreamReceiver()
    initialise(folder, ["c.test"], lambda: BEGIN)
    database, chosen = Database(sqlite_url(folder.database)), random.Random(7)  # noqa: S311
    turns, expired = 0, 0
    for _ in range(KILLS):
        steps = chosen.randint(1, 5 * len(STEPS))
        work_until_killed(folder, receiver.port, steps)
        turns += -(-steps // len(STEPS))
        with database.reading() as session:
            report = verify_controller(session)
        assert report.ok, report.message
        assert report.records >= turns * OF_A_TURN
        assert report.expired >= expired
        expired = report.expired
    assert expired > 0
    end = BEGIN + (turns + KILLS + 1) * TURN
    signer = SignerFolder(folder.signer).open(lambda: end)
    made = Checkpoints(database, signer)
    signed = made.make(end)
    assert signed is not None
    with database.reading() as session:
        sent = session.exec(select(AuditForwarding.seq)).one()
    whole = b"".join(exporting.whole(database, signed)).splitlines(keepends=True)
    found = verify(whole, [made.key()])
    assert (found.result, found.expired) == (Result.INTACT, expired), found
    last = 0
    while last < sent:
        (message,) = receiver.take(1)
        seq = json.loads(read_syslog(message).message or "")["seq"]
        assert seq <= last + 1, f"record {seq} came after record {last}"
        last = max(last, seq)
    signer.close()
    database.close()
    receiver.close()
