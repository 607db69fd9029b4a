from __future__ import annotations

from pathlib import Path

import pytest
from simulators import demo_model, frozen
from simulators.operator_api import ADMIN, URL, OperatorApi
from simulators.sprat_command import Sprat
from sprat_controller.registry.signing import generate_key_files


@pytest.fixture
def api() -> OperatorApi:
    made = OperatorApi()
    made.add_device("gw-1", labels={"site": "lyon"})
    made.add_device("cam-1", labels={"site": "oslo"}, simulated=True, state="PENDING")
    made.models["talk"] = [{"release": "1.0.0", "counter": 4, "variants": []}]
    return made


@pytest.fixture
def sprat(api: OperatorApi, tmp_path: Path) -> Sprat:
    environ = {"SPRAT_URL": URL, "SPRAT_TOKEN": ADMIN, "HOME": str(tmp_path / "home")}
    return Sprat(api, environ)


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in F16."""
    return demo_model.make(tmp_path_factory.mktemp("model") / "talk.gguf")


@pytest.fixture
def files(tmp_path: Path, gguf_file: Path) -> dict[str, Path]:
    """Files that a person may name, good ones and bad ones."""
    private, public, _ = generate_key_files(tmp_path / "key", None)
    made = {
        "gguf": gguf_file,
        "key": private,
        "key_base": tmp_path / "key",
        "pub": public,
        "new": tmp_path / "new",
        "folder": tmp_path,
        **{name: tmp_path / name for name in ("text", "empty", "binary", "large", "open_key")},
    }
    made["text"].write_text("just text")
    made["empty"].write_text("\n")
    made["binary"].write_bytes(b"\xff\x00\xfe")
    made["large"].write_bytes(b"x" * 100_000)
    made["statement"] = tmp_path / "statement.json"
    made["statement"].write_bytes(frozen.DRAFT)
    made["open_key"].write_bytes(private.read_bytes())
    made["open_key"].chmod(0o644)
    return made
