"""Views of audit records for other systems: pure functions of a record that give bytes.

A view is no evidence: that is the export with its proofs (`audit.export`). Each view holds the
whole record all the same, as JSON, beside the fields that the format has names for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from sprat_controller.audit.views import cef, ocsf, otlp, syslog
from sprat_controller.audit.views.record import Origin, Record, read


class Format(StrEnum):
    """What a record can be shown as."""

    CEF = "cef"
    OCSF = "ocsf"
    RFC5424 = "rfc5424"
    OTLP = "otlp"


_RENDER: Final[Mapping[Format, Callable[[Record, Origin], bytes]]] = {
    Format.CEF: cef.render,
    Format.OCSF: ocsf.render,
    Format.RFC5424: syslog.render,
    Format.OTLP: otlp.render,
}


def line(format_: Format, body: bytes, origin: Origin) -> bytes:
    """Return one record as a line, with its end.

    Args:
        format_: As what.
        body: The record as it stands in its log; nothing is refused, see `record.read`.
        origin: Whose logs they are.
    """
    return _RENDER[format_](read(body), origin) + b"\n"
