"""The names of versioned metadata files, `<version>.<role>.json`, in a folder and in a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_FILE: Final = re.compile(r"([1-9][0-9]{0,9})\.([a-z0-9][a-z0-9._-]{0,80})\.json")


@dataclass(frozen=True)
class FileName:
    """A versioned metadata file's name, taken apart."""

    version: int
    role: str

    def __str__(self) -> str:
        """Return it as it stands in a folder and in a URL."""
        return f"{self.version}.{self.role}.json"


def parse_name(name: str) -> FileName | None:
    """Return what a file name says; None for one that is not of a versioned metadata file."""
    match = _FILE.fullmatch(name)
    return None if match is None else FileName(int(match[1]), match[2])
