"""The body of a request, as bytes and as what they mean."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from sprat_agent.api.faults import ApiError, invalid

MAX_BODY_BYTES: Final = 1 << 20
_PATH: Final = re.compile(r" - at (?:`(?:key|value)` in )?`\$\.([A-Za-z_]+)")
_T = TypeVar("_T")


async def read_body(request: Request) -> bytes:
    """Return the request's body.

    Raises:
        ApiError: It is longer than `MAX_BODY_BYTES`, or breaks off.
    """
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                limit = MAX_BODY_BYTES
                message = f"expected a request body of up to {limit} bytes, found a longer one"
                raise ApiError(413, "request_too_large", message)
    except ClientDisconnect as error:  # nobody hears the answer, but it is no fault of ours
        raise invalid(f"the request broke off after {len(body)} bytes of its body") from error
    return bytes(body)


def decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    """Read a request by its schema.

    Raises:
        ApiError: Not JSON, or a wrong or unknown field: one sentence, and the field.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = _PATH.search(str(error))
        message = f"the request body is not understood: {error}"
        raise invalid(message, param=found[1] if found else None) from error
