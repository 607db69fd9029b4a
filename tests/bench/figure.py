"""What a benchmark reports."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One measured value and the bound it is held to."""

    name: str
    value: float
    unit: str
    bound: float
    at_least: bool = False
    # What it was compared with and measured beside, for the reader.
    detail: dict[str, object] = field(default_factory=dict[str, object])

    @property
    def ok(self) -> bool:
        """The bound holds."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def line(self) -> dict[str, object]:
        """The figure as its JSON line."""
        line: dict[str, object] = {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "bound": self.bound,
            "ok": self.ok,
        }
        if self.at_least:
            line["at_least"] = True
        return line | ({"detail": self.detail} if self.detail else {})
