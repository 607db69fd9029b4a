"""Where to send the audit log on to: the URLs of `sprat-controller run --forward-audit`. Pure.

    syslog+udp://HOST[:514]              RFC 5426
    syslog+tcp://HOST[:601]              RFC 6587, octet counting
    syslog+tls://HOST[:6514]             RFC 5425
    otlp+http://HOST[:4318][/v1/logs]    OTLP in JSON
    otlp+https://HOST[:4318][/v1/logs]

After `?`: `logs=controller|devices|all` (whose; else the controller's), `content=json|cef|ocsf`
(what syslog messages hold), `ca=FILE` (who signs the receiver's certificate; else the system's),
`certificate=FILE&key=FILE` (the controller's own at the receiver), `headers=FILE` (of OTLP
requests, `Name: value` a line; secrets are in no argument of a process).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit


class Transport(StrEnum):
    """How records travel."""

    UDP = "syslog+udp"
    TCP = "syslog+tcp"
    TLS = "syslog+tls"
    HTTP = "otlp+http"
    HTTPS = "otlp+https"

    @property
    def is_syslog(self) -> bool:
        """Messages are of RFC 5424."""
        return self in (Transport.UDP, Transport.TCP, Transport.TLS)

    @property
    def is_encrypted(self) -> bool:
        """The receiver shows a certificate."""
        return self in (Transport.TLS, Transport.HTTPS)


class Content(StrEnum):
    """What a syslog message holds."""

    JSON = "json"
    CEF = "cef"
    OCSF = "ocsf"


class Logs(StrEnum):
    """Whose logs are sent on."""

    CONTROLLER = "controller"
    DEVICES = "devices"
    ALL = "all"


_PORTS: Final[Mapping[Transport, int]] = {
    Transport.UDP: 514,
    Transport.TCP: 601,
    Transport.TLS: 6514,
    Transport.HTTP: 4318,
    Transport.HTTPS: 4318,
}
_OTLP_PATH: Final = "/v1/logs"
_FILES: Final = ("ca", "certificate", "key", "headers")


@dataclass(frozen=True)
class Destination:
    """A receiver."""

    transport: Transport
    host: str
    port: int
    path: str = ""
    content: Content = Content.JSON
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    headers: Path | None = None
    logs: Logs = Logs.CONTROLLER

    @property
    def name(self) -> str:
        """What it is called in rows and sentences; how far it has come is kept by this name."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport.value}://{host}:{self.port}{self.path}"


def parse(text: str) -> Destination:
    """Read a URL.

    Raises:
        ValueError: It is none of these; one sentence says what is wrong.
    """
    form = "expected a URL such as syslog+tls://HOST:PORT or otlp+https://HOST:PORT"
    try:
        parts = urlsplit(text)
        transport, port = Transport(parts.scheme), parts.port
    except ValueError:
        raise ValueError(f"{form}, found {text!r}") from None
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError(f"{form}, found {text!r}")
    path = parts.path.rstrip("/")
    if transport.is_syslog and path:
        raise ValueError(f"expected no path after the port of {transport.value}, found {path!r}")
    options = _options(parts.query, transport)
    files = {name: Path(options[name]) for name in _FILES if name in options}
    if ("certificate" in files) != ("key" in files):
        raise ValueError(f"expected certificate= and key= together, found one of them in {text!r}")
    return Destination(
        transport,
        parts.hostname,
        port or _PORTS[transport],
        "" if transport.is_syslog else path or _OTLP_PATH,
        _content(options.get("content", Content.JSON.value)),
        logs=_logs(options.get("logs", Logs.CONTROLLER.value)),
        **files,
    )


def each_once(given: Iterable[Destination]) -> tuple[Destination, ...]:
    """Return destinations without repetitions.

    Raises:
        ValueError: One is given in two ways: how far it has come is one number.
    """
    found: dict[str, Destination] = {}
    for one in given:
        if found.setdefault(one.name, one) != one:
            raise ValueError(
                f"expected {one.name} once, found it twice with different options: what is sent"
                " there is said in one URL, for example with logs=all"
            )
    return tuple(found.values())


def _options(query: str, transport: Transport) -> dict[str, str]:
    allowed = {"logs", "content"} if transport.is_syslog else {"logs", "headers"}
    if transport.is_encrypted:
        allowed |= {"ca", "certificate", "key"}
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in allowed or name in options or not value:
            expected = ", ".join(f"{one}=" for one in sorted(allowed))
            raise ValueError(
                f"expected each of {expected} at most once with a value after the ? of"
                f" {transport.value}, found {f'{name}={value}'!r}"
            )
        options[name] = value
    return options


def _content(text: str) -> Content:
    try:
        return Content(text)
    except ValueError:
        expected = ", ".join(Content)
        raise ValueError(f"expected content= one of {expected}, found {text!r}") from None


def _logs(text: str) -> Logs:
    try:
        return Logs(text)
    except ValueError:
        expected = ", ".join(Logs)
        raise ValueError(f"expected logs= one of {expected}, found {text!r}") from None
