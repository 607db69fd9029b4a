"""What lets a device fetch blobs: a bearer that names it and ends, checked without a look-up.

    sprat-blob.<device id>.<expiry, Unix seconds>.<base64url HMAC-SHA256 of what stands before>

It is no secret worth much: a blob is public to every device and worthless without its signed
manifest. A revoked device keeps what it has until the end of it, and gets no new one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from sprat_proto import topics

LIFETIME: Final = timedelta(days=7)
MIN_SECRET_BYTES: Final = 32
_FORM: Final = re.compile(r"(sprat-blob\.([a-z0-9-]{1,64})\.([0-9]{1,12}))\.([A-Za-z0-9_-]{43})")


class BlobCredentials:
    """Mints and checks the credentials of devices."""

    def __init__(self, secret: bytes) -> None:
        """Use `secret`, at least 32 random bytes that only the controller knows.

        Raises:
            ValueError: Too short a secret.
        """
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"expected at least {MIN_SECRET_BYTES} bytes, found {len(secret)}")
        self._secret = secret

    def mint(self, device_id: str, now: datetime) -> tuple[str, datetime]:
        """Return a credential of a device and when it ends."""
        if not topics.is_device_id(device_id):
            raise ValueError(f"expected a device id, found {device_id!r}")
        expires = datetime.fromtimestamp(int((now + LIFETIME).timestamp()), UTC)
        text = f"sprat-blob.{device_id}.{int(expires.timestamp())}"
        return f"{text}.{self._seal(text)}", expires

    def check(self, text: str, now: datetime) -> str | None:
        """Return the device's id, or None for a credential that is not ours or has ended."""
        match = _FORM.fullmatch(text)
        if match is None:
            return None
        body, device_id, expires, seal = match.groups()
        if not hmac.compare_digest(seal, self._seal(body)):
            return None
        return device_id if now.timestamp() < int(expires) else None

    def _seal(self, text: str) -> str:
        digest = hmac.new(self._secret, text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
