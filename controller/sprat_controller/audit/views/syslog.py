r"""Records as syslog messages (RFC 5424), with structured data. Pure.

    <110>1 2026-11-26T17:00:00.000Z ctl.example sprat - operator:rollout:started [sprat@32473 …] …

The message is the whole record as JSON, in UTF-8 after a byte order mark, as the RFC wants it. The
structured data hold the fields that one searches by, cut and without control characters, which
receivers change in ways of their own. `"`, `\` and `]` are escaped in their values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sprat_controller.audit.views.record import (
    MAX_PLAIN,
    PRODUCT,
    Origin,
    Record,
    Severity,
    plain,
)

APP_NAME: Final = "sprat"
# The number that RFC 5612 sets aside for examples: the project has none of its own.
SD_ID: Final = "sprat@32473"
BOM: Final = b"\xef\xbb\xbf"
_LOG_AUDIT: Final = 13 << 3  # the facility
_SEVERITY: Final[Mapping[Severity, int]] = {
    Severity.INFORMATIONAL: 6,
    Severity.WARNING: 4,
    Severity.ALARM: 1,
}
_NIL: Final = "-"
_NO_PRINTUSASCII: Final = re.compile(r"[^!-~]")
_MAX_HOSTNAME: Final = 255
_MAX_MSGID: Final = 32
_VALUE: Final = str.maketrans({'"': '\\"', "\\": "\\\\", "]": "\\]"})
# Of each field of a message that must be short: together they are less than 10 kB.
_SHORT: Final = 128
# As `sprat_proto.audit_events` says of clocks, and as the RFC's timeQuality says it.
_IS_SYNCED: Final[Mapping[str, str]] = {"synced": "1", "floor": "0", "unsynced": "0"}


def render(record: Record, origin: Origin) -> bytes:
    """Return a message that holds the whole record."""
    return message(record, origin, record.text.encode())


def message(record: Record, origin: Origin, content: bytes, limit: int | None = None) -> bytes:
    """Return a message.

    Args:
        record: What it is about.
        origin: Whose log.
        content: UTF-8 without a byte order mark and line ends.
        limit: Of its bytes. A longer one says `cut`, how long its content is, instead of that.
    """
    header = _header(record, origin)
    whole = b"%b%b %b%b" % (header, _data(record, origin), BOM, content)
    if limit is None or len(whole) <= limit:
        return whole
    return header + _data(record, origin, limit=_SHORT, more={"cut": str(len(content))})


def octet_counted(message_: bytes) -> bytes:
    """Return a message as it is sent over TCP and TLS (RFC 6587 §3.4.1, RFC 5425 §4.3)."""
    return b"%d %b" % (len(message_), message_)


def _header(record: Record, origin: Origin) -> bytes:
    priority = _LOG_AUDIT | _SEVERITY[record.severity]
    at = _NIL if record.at is None else f"{record.at.replace(tzinfo=None):%Y-%m-%dT%H:%M:%S.%f}Z"
    # `%Y` has no leading zeros everywhere; a year before 1000 is no time of ours.
    at = at if at == _NIL or at[4:5] == "-" else _NIL
    host = _name(origin.host, _MAX_HOSTNAME)
    return f"<{priority}>1 {at} {host} {APP_NAME} - {_name(record.tag, _MAX_MSGID)} ".encode()


def _data(
    record: Record,
    origin: Origin,
    *,
    limit: int = MAX_PLAIN,
    more: Mapping[str, str] | None = None,
) -> bytes:
    elements = [
        _element(SD_ID, record.named() | dict(more or {}), limit),
        _element("origin", {"software": PRODUCT, "swVersion": origin.version}, limit),
    ]
    is_synced = _IS_SYNCED.get(record.tsq)
    if is_synced is not None:
        elements.append(_element("timeQuality", {"tzKnown": "1", "isSynced": is_synced}, limit))
    return "".join(elements).encode()


def _element(id_: str, said: Mapping[str, str], limit: int) -> str:
    told = "".join(
        f' {name}="{plain(value, limit=limit).translate(_VALUE)}"' for name, value in said.items()
    )
    return f"[{id_}{told}]"


def _name(text: str, limit: int) -> str:
    return _NO_PRINTUSASCII.sub("?", text[:limit]) or _NIL
