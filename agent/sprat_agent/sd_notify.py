"""Tells systemd how the agent is: sd_notify(3), one datagram a message, where systemd asks for it.

Without `NOTIFY_SOCKET` in the environment nothing is said. A message that cannot be sent is logged
and changes nothing else: the agent serves on, and systemd draws its own conclusions.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

_LOG = logging.getLogger(__name__)


class ServiceManager:
    """The way to systemd."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Read where systemd listens and how often it wants to hear of us.

        Args:
            environment: Of this process: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
        """
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment) if self._address else None

    def starting(self, what: str) -> None:
        """Say what takes its time before the agent is ready."""
        self._send(f"STATUS={what}")

    def ready(self, status: str) -> None:
        """Say that the agent serves; `status` is shown by `systemctl status`."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the agent is about to end."""
        self._send("STOPPING=1\nSTATUS=ending")

    async def run(self) -> None:
        """Say that the event loop turns, twice in each period that systemd allows; until cancelled.

        Returns at once where systemd does not watch.
        """
        if self.watchdog_s is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / 2)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.settimeout(0)  # a manager that does not read must not stop us
            try:
                connection.sendto(message.encode(), self._address)
            except OSError as error:
                _LOG.warning("systemd does not hear %s: %s", message.partition("\n")[0], error)


def _address(notify_socket: str) -> str:
    """Return the socket's address: a path, or a name in the abstract namespace."""
    if not notify_socket or notify_socket.startswith("/"):
        return notify_socket
    if notify_socket.startswith("@"):
        return "\0" + notify_socket[1:]
    _LOG.warning(
        "expected a path or @name in NOTIFY_SOCKET, found %r: systemd hears nothing", notify_socket
    )
    return ""


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Return how long systemd waits for a sign of life, if it waits for one of this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    found = environment.get("WATCHDOG_USEC", "")
    if not found:
        return None
    if not (found.isascii() and found.isdigit() and int(found) > 0):
        _LOG.warning("expected microseconds in WATCHDOG_USEC, found %r: no watchdog", found)
        return None
    return int(found) / 1_000_000
