"""The text that variants are judged on, unless a publisher has a better one."""

from __future__ import annotations

import hashlib
from importlib import resources


def default_text() -> str:
    """Return the project's own: prose about devices, with figures, code, German and French."""
    package = "sprat_controller.publisher.evaluate"
    return (resources.files(package) / "calibration.txt").read_bytes().decode()


def sha256_of(text: str) -> str:
    """Return what a manifest names a text by: the SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()
