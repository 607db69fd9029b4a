"""The three distributions move in lock-step."""

from __future__ import annotations

import tomllib
from pathlib import Path

import sprat_agent
import sprat_controller
import sprat_proto

ROOT = Path(__file__).resolve().parents[2]


def project(folder: str) -> dict[str, object]:
    text = (ROOT / folder / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]


def test_all_three_versions_are_equal() -> None:
    versions = {
        sprat_proto.__version__,
        sprat_agent.__version__,
        sprat_controller.__version__,
        *(project(folder)["version"] for folder in ("proto", "agent", "controller")),
    }
    assert len(versions) == 1


def test_both_planes_pin_the_contract_of_their_own_version() -> None:
    for folder in ("agent", "controller"):
        assert f"sprat-proto=={sprat_proto.__version__}" in str(project(folder)["dependencies"])


def test_no_lock_file_with_download_addresses_is_kept() -> None:
    for path in (ROOT / "requirements").iterdir():
        assert "://" not in path.read_text(encoding="utf-8"), path.name
