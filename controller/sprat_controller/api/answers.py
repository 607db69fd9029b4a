"""Answers that are long: written by msgspec, past the validation that short ones get.

A page of 1,000 devices is written in about 2 ms this way instead of about 20 by FastAPI's own way
(measured 2026-11 on 2 shared cores); the shape stays documented by `response_model`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import Response

_encoder: Final = msgspec.json.Encoder()


def contents(*media_types: str, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of an answer that is a file or a text.

    The route's `response_class` must be one without a media type of its own, which its errors,
    which are JSON all the same, would be documented with.
    """
    return {status: {"content": {media_type: {} for media_type in media_types}}}


def fast(value: object, status_code: int = 200) -> Response:
    """Return `value` as JSON; moments are RFC 3339 in UTC."""
    return Response(_encoder.encode(value), status_code, media_type="application/json")
