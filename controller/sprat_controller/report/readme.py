"""The page that comes with a report: what is in it, and how to check it. Pure."""

from __future__ import annotations

from typing import Final

from sprat_controller.report.record import Json

_TEXT: Final = """# {title}

Made {made_at}. `report.html` is for people, `report.json` for programs; both say the same.

| file | what it is |
|---|---|
| `evidence.jsonl` | the controller's audit log, {extent}, with what verifying it needs |
| `checkpoint`, `log.vkey` | the newest signed checkpoint of that log, and its public key |
| `devices/NAME.jsonl` | each device's own log, up to the checkpoint that it signed |
| `manifests/SHA256.json` | what publishers signed of each model; named by its SHA-256 |
| `approvals/`, `approvers.json` | signed approvals (DSSE), and the keys that may approve |

## How to check it

1. Have the log's public key from somewhere else than from here: `sprat audit key`, once, long ago.
2. `sprat audit verify evidence.jsonl --key KEY`: the log is unbroken, and as it was signed.
3. `sprat audit verify devices/NAME.jsonl --key KEY`: the same for each device, with the same key:
   by which key the device signs stands in the controller's log, in the record of its enrolment
   (`audit_key_sha256`), which the file begins with.
4. Each statement of `report.json` names in `records` the positions, by log, of those that it rests
   on. `tests/independent/verify_report.py` of the source of Sprat says all of them again from the
   records alone, without a line of Sprat's code: `python verify_report.py FOLDER KEY`.

What cannot be checked: the table `last_used`, which is the controller's word. What a part of the
log does not show: that there were no other records. {note}
"""


def render(report: Json) -> str:
    """Return the text."""
    is_whole = not report["wanted"]
    narrowed = ", ".join(f"{name} {value}" for name, value in report["wanted"].items())
    extent = "whole" if is_whole else f"the part that was asked for ({narrowed})"
    made = {"title": report["title"], "made_at": report["made_at"], "note": report["note"]}
    return _TEXT.format(extent=extent, **made)
