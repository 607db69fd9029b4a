"""What a repository says of a target: a value without python-tuf. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sprat_proto.trust import TargetCustom


@dataclass(frozen=True)
class Named:
    """What a repository says of a target.

    Attributes:
        path: Of the target.
        length: In bytes.
        hashes: Algorithm and hex, as stated.
        custom: None if it is not that of a manifest.
        hardware_ids: For what its publisher may sign; None: the delegation does not say.
        signer: `publisher (key id prefix)`; empty where nobody was delegated to.
    """

    path: str
    length: int
    hashes: tuple[tuple[str, str], ...]
    custom: TargetCustom | None
    hardware_ids: tuple[str, ...] | None = None
    signer: str = ""

    @property
    def sha256(self) -> str:
        """Hex; empty if the repository says none."""
        return dict(self.hashes).get("sha256", "")
