"""What Mosquitto must be told so that a device is what its certificate says, no more. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sprat_proto import link

from sprat_controller.fleet.ca import CONTROLLER_NAME

# The socket in the broker's folder at which sessions are ended (`mqtt.take_over`); named relative
# to the folder, for a Unix socket's path must be short.
TAKE_OVER_SOCKET: Final = "end.sock"
# A message of the Link at its largest, with topic and properties: above it nothing is in order.
MAX_PACKET_BYTES: Final = link.MAX_MESSAGE_BYTES + 4096

# `up/#` is `up` and all below it. A subscription to more is granted by Mosquitto, but brings
# nothing: access is decided at delivery.
_ACCESS_LIST: Final = f"""\
user {CONTROLLER_NAME}
topic readwrite sprat/v1/#

pattern write sprat/v1/devices/%u/up/#
pattern read sprat/v1/devices/%u/down/#
"""

# Whoever comes by the socket may end a session by taking its client id over, and nothing else.
NO_ACCESS: Final = "# nobody reads or writes here\n"


def access_list(denied: Iterable[str]) -> str:
    """Return who may read and write what.

    Args:
        denied: Devices that may nothing whatever they hold: a connection that was open before its
            certificate was revoked, and not yet spoken over, is let in by the list of that time.
    """
    users = "".join(f"user {name}\ntopic deny #\n\n" for name in sorted(denied))
    return users + _ACCESS_LIST


def mosquitto_conf(folder: Path, *, host: str, port: int, user: str) -> str:
    """Return mosquitto.conf for a broker that lives in `folder`, and is started there.

    Args:
        folder: Where its certificates, access list, data and process id are.
        host: Address to listen on.
        port: Port to listen on.
        user: Whom to run as when started as root: who owns the folder's files, which Mosquitto
            reads only after it gave up root. Otherwise without effect.
    """
    return f"""\
per_listener_settings true
user {user}
pid_file {folder}/mosquitto.pid
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages false

persistence true
persistence_location {folder}/
persistent_client_expiration 1d
max_packet_size {MAX_PACKET_BYTES}
max_inflight_messages 200
max_queued_messages 10000

listener {port} {host}
allow_anonymous false
cafile {folder}/ca.pem
certfile {folder}/certificate.pem
keyfile {folder}/key.pem
# Of everybody's issuer: without one that is in date, nobody is let in (mosquitto#1826).
crlfile {folder}/revoked.pem
require_certificate true
# The certificate's name is the user, and the user is the client id: or any device could throw
# another one off by taking its client id (mosquitto#2348).
use_identity_as_username true
use_username_as_clientid true
acl_file {folder}/access.txt

# In a folder that only its owner enters. Client ids are free here, which ends what no SIGHUP ends:
# the session of a device that was revoked.
listener 0 {TAKE_OVER_SOCKET}
allow_anonymous true
acl_file {folder}/no_access.txt
"""
