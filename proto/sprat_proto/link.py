"""What both ends of the Link hold to beside the messages themselves."""

from __future__ import annotations

from typing import Final

# One message, serialized. The sender refuses a larger one, so that the link need not break over it.
MAX_MESSAGE_BYTES: Final = 1 << 20
# A dead peer is noticed after one silent interval of this many seconds and the patience below.
KEEPALIVE_S: Final = 30
KEEPALIVE_PATIENCE_S: Final = 10
# Over gRPC: the header by which the controller tells a device that it is admitted. Its absence says
# that it is not, before the status that says why has come.
ADMITTED_HEADER: Final = "sprat-admitted"
# Over MQTT: how long the broker keeps the subscriptions and messages of a device that is away.
SESSION_EXPIRY_S: Final = 3600
# Over MQTT: an answer that waited longer than this is of no use to anybody.
ANSWER_EXPIRY_S: Final = 300


class MessageTooLargeError(ValueError):
    """The message is above MAX_MESSAGE_BYTES; nothing was sent, the link stands."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"expected a message of at most {MAX_MESSAGE_BYTES} bytes, found {size}:"
            " send it in parts"
        )
        self.size = size


def check_size(size: int) -> None:
    """Refuse a message that no carrier takes.

    Raises:
        MessageTooLargeError: `size`, in bytes, is above the limit.
    """
    if size > MAX_MESSAGE_BYTES:
        raise MessageTooLargeError(size)
