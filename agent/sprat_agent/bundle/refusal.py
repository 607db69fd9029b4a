"""What is said of a bundle that is not taken in."""

from __future__ import annotations


class BundleError(Exception):
    """The bundle is refused; one sentence says why."""
