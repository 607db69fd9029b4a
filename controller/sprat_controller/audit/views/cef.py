r"""Records in the Common Event Format, version 0 (ArcSight, revision 25). Pure.

    CEF:0|Sprat|sprat-controller|0.1.0|operator:rollout:started|rollout started|3|rt=… suser=…

In the header `\` and `|` are escaped, and a line end cannot be; in the extension `\` and `=` are,
and line ends are `\n` and `\r`. No other control character has an escape: in fields they are
U+FFFD, and such as they were in `spratRecord`, the whole record as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sprat_controller.audit.views.record import PRODUCT, Origin, Record, Severity, plain

VENDOR: Final = "Sprat"
_SEVERITY: Final[Mapping[Severity, int]] = {
    Severity.INFORMATIONAL: 3,
    Severity.WARNING: 6,
    Severity.ALARM: 9,
}
_HEADER: Final = str.maketrans({"\\": "\\\\", "|": "\\|"})
_EXTENSION: Final = str.maketrans({"\\": "\\\\", "=": "\\=", "\n": "\\n", "\r": "\\r"})
# Custom strings of the dictionary, and which field each holds.
CUSTOM: Final[Mapping[str, str]] = {
    "cs1": "subject",
    "cs2": "scope",
    "cs3": "before",
    "cs4": "after",
    "cs5": "authn",
    "cs6": "session",
}


def render(record: Record, origin: Origin) -> bytes:
    """Return one line, without its end."""
    header = (VENDOR, PRODUCT, origin.version, record.tag, record.title)
    told = "|".join(plain(part).translate(_HEADER) for part in header)
    extension = " ".join(f"{key}={value}" for key, value in _extension(record, origin).items())
    return f"CEF:0|{told}|{_SEVERITY[record.severity]}|{extension}".encode()


def _extension(record: Record, origin: Origin) -> dict[str, str]:
    named = record.named()
    microseconds = record.microseconds
    said = {
        "rt": "" if microseconds is None else str(microseconds // 1000),
        "dvchost": origin.host,
        "deviceExternalId": record.log,
        "externalId": str(record.seq),
        "suser": record.actor,
        "act": record.action,
        "outcome": record.outcome,
        "reason": record.reason,
        "requestContext": record.request,
    }
    for key, name in CUSTOM.items():
        if name in named:
            said |= {f"{key}Label": name, key: named[name]}
    fields = {key: plain(value, but="\r\n") for key, value in said.items() if value}
    fields["spratRecord"] = record.text
    return {key: value.translate(_EXTENSION) for key, value in fields.items()}
