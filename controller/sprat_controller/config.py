"""What the controller is told: its data folder and the flags of `sprat-controller run`.

Each part gets its own few settings from here; none gets all of it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

from sprat_controller.audit.forwarding.destination import Destination
from sprat_controller.errors import StartupError

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_MAX_PORT: Final = 65535
DEFAULT_BROKER_PORT: Final = 8883
DATABASE_SCHEME: Final = "postgresql+psycopg"


@dataclass(frozen=True)
class DataFolder:
    """Where everything is that the controller keeps."""

    path: Path

    @property
    def database(self) -> Path:
        """The rows, unless `init` was told to keep them elsewhere."""
        return self.path / "controller.db"

    @property
    def blobs(self) -> Path:
        """The blob store."""
        return self.path / "blobs"

    @property
    def broker(self) -> Path:
        """The managed broker's own folder."""
        return self.path / "broker"

    @property
    def tls(self) -> Path:
        """The API server's certificate and key, made anew at each start."""
        return self.path / "tls"

    @property
    def settings(self) -> Path:
        """What `init` was told."""
        return self.path / "settings.json"

    @property
    def signer(self) -> Path:
        """The signer's own folder."""
        return self.path / "signer"

    @property
    def offline(self) -> Path:
        """Where `init` puts the keys that must leave this machine, unless told otherwise."""
        return self.path / "offline"

    @property
    def ca(self) -> Path:
        """The certificate of the authority's root."""
        return self.path / "ca.pem"

    @property
    def blob_secret(self) -> Path:
        """The secret of the blob credentials."""
        return self.path / "blob.secret"

    @property
    def admin_token(self) -> Path:
        """The first administrator's token; `init` writes it last."""
        return self.path / "admin.token"

    @property
    def lock(self) -> Path:
        """Held by the process that uses this folder."""
        return self.path / "lock"

    @property
    def ready(self) -> Path:
        """There while the controller serves: its process id and addresses."""
        return self.path / "controller.json"

    def check_initialised(self) -> None:
        """Check that `init` came to its end here.

        Raises:
            StartupError: It did not.
        """
        if not self.admin_token.exists():
            raise StartupError(
                "not_initialised",
                f"{self.path} holds no controller: run `sprat-controller init --data {self.path}`"
                " first",
            )

    def hosts(self) -> tuple[str, ...]:
        """Return the names that `init` was told the controller is reached by.

        Raises:
            StartupError: The settings cannot be read.
        """
        return self._settings()[0]

    def machine(self) -> str:
        """Return what the machine was called when `init` ran: the signer certifies no later name.

        Raises:
            StartupError: The settings cannot be read.
        """
        return self._settings()[1]

    def database_url(self) -> str | None:
        """Return where `init` was told to keep the rows; None: in this folder.

        Raises:
            StartupError: The settings cannot be read.
        """
        return self._settings()[2]

    def _settings(self) -> tuple[tuple[str, ...], str, str | None]:
        try:
            found: Any = json.loads(self.settings.read_text(encoding="utf-8"))
            hosts = cast("list[str]", found["hosts"])
            database = cast("str | None", found.get("database"))
            return (
                tuple(check_host(host) for host in hosts),
                str(found["machine"]),
                None if database is None else check_database(database),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StartupError(
                "bad_settings",
                f"expected {self.settings} as `sprat-controller init` writes it: {error}",
            ) from error


@dataclass(frozen=True)
class Broker:
    """Which MQTT broker is used: a managed child, or one elsewhere."""

    host: str | None = None  # None: managed
    port: int = DEFAULT_BROKER_PORT


@dataclass(frozen=True)
class RunOptions:
    """The flags of `sprat-controller run`; port 0 is any free one."""

    listen: str = "127.0.0.1"
    api_port: int = 7770
    grpc_port: int = 7771
    broker: Broker | None = None
    heartbeat_s: int = 60
    signer: Path | None = None  # the socket of a signer that runs elsewhere; None: a managed child
    database: str | None = None  # URL of the rows; None: where `init` was told to keep them
    forward_audit: tuple[Destination, ...] = ()  # who else gets the audit log
    oidc: Path | None = None  # with whom people sign in; None: with nobody


def check_host(text: str) -> str:
    """Return a host name or address.

    Raises:
        ValueError: Neither.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if _HOST.fullmatch(text) is None:
            raise ValueError(f"expected a host name or address, found {text!r}") from None
        return text.lower()


def check_port(text: str) -> int:
    """Return a port.

    Raises:
        ValueError: Not a whole number from 0 to 65535.
    """
    if not text.isascii() or not text.isdigit() or int(text) > _MAX_PORT:
        raise ValueError(f"expected a port from 0 to {_MAX_PORT}, found {text!r}")
    return int(text)


def check_database(text: str) -> str:
    """Return the URL of a database that controllers share.

    Raises:
        ValueError: Something else. The sentence has no password in it.
    """
    form = f"{DATABASE_SCHEME}://USER@HOST/NAME"
    if not text.startswith(f"{DATABASE_SCHEME}://"):
        raise ValueError(f"expected {form}, found {text.partition('://')[0][:64]!r} as its scheme")
    try:
        name = urlsplit(text).path.strip("/")
    except ValueError:
        name = ""
    if not name or "/" in name:
        raise ValueError(f"expected {form}, found one without the name of a database")
    return text


def parse_broker(text: str, managed_port: int) -> Broker | None:
    """Read `off`, `managed` or `mqtts://HOST:PORT`.

    Raises:
        ValueError: Something else.
    """
    if text == "off":
        return None
    if text == "managed":
        return Broker(port=managed_port)
    try:
        parts = urlsplit(text)
        port = parts.port or DEFAULT_BROKER_PORT
        if parts.scheme == "mqtts" and parts.hostname and not parts.path.strip("/"):
            return Broker(check_host(parts.hostname), port)
    except ValueError:
        pass  # a port that is none: the sentence below says what is right
    raise ValueError(f"expected off, managed or mqtts://HOST:PORT, found {text!r}")


def server_names(hosts: Sequence[str], listen: str, machine: str) -> list[str]:
    """Return all names that a server's certificate should hold, the most public first.

    Args:
        hosts: What `init` was told.
        listen: Address that the servers listen on.
        machine: Name of the machine; left out if it is no host name.
    """
    local = ["localhost", "127.0.0.1", "::1"]
    names = [*hosts, *([] if is_wildcard(listen) else [listen]), machine, *local]
    return [name for name in dict.fromkeys(names) if _is_host(name)]


def is_wildcard(listen: str) -> bool:
    """Tell whether `listen` means every address of the machine."""
    return listen in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def bracketed(host: str) -> str:
    """Return a host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads (0600): whole, durable, or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _is_host(text: str) -> bool:
    try:
        check_host(text)
    except ValueError:
        return False
    return True
