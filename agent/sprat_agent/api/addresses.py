"""Where the local API listens: addresses as people write them. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from sprat_agent.errors import StartupError

_PORTS: Final = 1 << 16
_IPV6: Final = 6


class ListenError(StartupError):
    """An address cannot be listened on: one sentence."""


@dataclass(frozen=True)
class Address:
    """A TCP address; port 0 stands for any free one."""

    host: str  # in numbers, without brackets
    port: int
    is_loopback: bool
    is_ipv6: bool

    def __str__(self) -> str:
        """Return it as `host:port`."""
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


def parse(listen: str) -> Address:
    """Understand `host:port`.

    Raises:
        ListenError: It is something else.
    """
    host, colon, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        address, number = ipaddress.ip_address(host), int(port)
    except ValueError as error:
        message = f"expected an address such as 127.0.0.1:7772, found {listen!r}"
        raise ListenError(message) from error
    if not colon or not 0 <= number < _PORTS:
        raise ListenError(f"expected a port from 0 to 65535 in {listen!r}, found {port!r}")
    return Address(host, number, address.is_loopback, address.version == _IPV6)
