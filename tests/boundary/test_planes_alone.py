"""Each plane installs and imports without the other: a device never holds controller code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = ROOT / ".tools" / "bin" / "uv"

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith(".migrations.env") and ".versions." not in module.name:
            importlib.import_module(module.name)
print("\\n".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize(
    ("plane", "foreign"),
    [
        ("agent", {"sprat_controller", "sqlmodel", "sqlalchemy", "pydantic", "fastapi", "typer"}),
        ("controller", {"sprat_agent"}),
    ],
)
def test_a_plane_installs_and_imports_alone(plane: str, foreign: set[str], tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    python = venv / "bin" / "python"
    run(UV, "venv", "--quiet", "--python", "3.11", venv)
    run(
        *(UV, "pip", "install", "--quiet", "--python", python, "--require-hashes"),
        *("-r", ROOT / "requirements" / f"{plane}.txt"),
    )
    run(
        *(UV, "pip", "install", "--quiet", "--python", python, "--no-deps"),
        *(ROOT / "proto", ROOT / plane, llama_wheel()),
    )
    loaded = run(python, "-c", IMPORT_ALL, "sprat_proto", f"sprat_{plane}").split()
    assert f"sprat_{plane}" in loaded
    assert not foreign & set(loaded)
    installed = run(UV, "pip", "list", "--python", python, "--format", "freeze").lower()
    assert not {name for name in foreign if f"{name.replace('_', '-')}==" in installed}


def llama_wheel() -> Path:
    """The wheel that set-up compiled for this processor."""
    found = run(
        ROOT / ".venv" / "bin" / "python",
        "-c",
        "import bootstrap; print(bootstrap.ensure_llama_wheel())",
        cwd=ROOT / "deploy",
    )
    return Path(found.strip())


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
