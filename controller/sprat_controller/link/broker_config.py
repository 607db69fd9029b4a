"""What Mosquitto must be told so that a device is what its certificate says, no more. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sprat_proto import link

from sprat_controller.fleet.ca import CONTROLLER_NAME

# A message, its topic and its properties.
MAX_PACKET_BYTES: Final = link.MAX_MESSAGE_BYTES + 4096

# `up/#` is `up` and all below it. A subscription to more is granted by Mosquitto, but brings
# nothing: access is decided at delivery.
ACCESS_LIST: Final = f"""\
user {CONTROLLER_NAME}
topic readwrite sprat/v1/#

pattern write sprat/v1/devices/%u/up/#
pattern read sprat/v1/devices/%u/down/#
"""


def mosquitto_conf(folder: Path, *, host: str, port: int, user: str) -> str:
    """Return mosquitto.conf for a broker that lives in `folder`.

    Args:
        folder: Where its certificates, access list, data and process id are.
        host: Address to listen on.
        port: Port to listen on.
        user: Whom to run as when started as root: who owns the folder's files, which Mosquitto
            reads only after it gave up root. Otherwise without effect.
    """
    return f"""\
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
require_certificate true
# The certificate's name is the user, and the user is the client id: or any device could throw
# another one off by taking its client id (mosquitto#2348).
use_identity_as_username true
use_username_as_clientid true
acl_file {folder}/access.txt
"""
