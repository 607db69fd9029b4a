"""What every answer tells a browser: run nothing, show nothing in frames, believe types, say https.

The API answers data, so its policy allows nothing at all; the one page, `/docs`, may load what the
controller serves, and run the one inline script that it was made with, by its hash.
Names and values: OWASP Secure Headers, and Content Security Policy Level 3.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Final

_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# Two years, the least that preload lists take. Browsers heed it only where they trust the
# certificate, and never for an address.
_HSTS: Final = f"max-age={2 * 365 * 86_400}"
_ALWAYS: Final[Mapping[str, str]] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "strict-transport-security": _HSTS,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_INLINE: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def of_data() -> dict[str, str]:
    """Return the headers of an answer that is no page."""
    return {**_ALWAYS, "content-security-policy": _NOTHING}


def of_page(html: str) -> dict[str, str]:
    """Return the headers of a page of ours: its scripts are the controller's, or those in it now.

    Args:
        html: The page as it was made, before anybody asked for it.
    """
    inline = (hashlib.sha256(found.encode()).digest() for found in _INLINE.findall(html))
    hashes = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in inline)
    policy = (
        f"{_NOTHING}; script-src 'self' {hashes}; connect-src 'self'; img-src 'self' data:;"
        # The viewer of the document sets styles of its own; a style runs nothing.
        " style-src 'self' 'unsafe-inline'"
    )
    return {**_ALWAYS, "content-security-policy": policy}
