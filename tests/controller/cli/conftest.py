from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from simulators import demo_model, frozen
from simulators.image_keys import ImageKeys, write_key
from simulators.operator_api import ADMIN, CREATED, URL, OperatorApi
from simulators.sprat_command import NOW, Sprat
from sprat_controller.publisher.signing import generate_key_files
from sprat_controller.signer.authority import make_root
from sprat_controller.signer.keys import public_pem
from sprat_controller.trust import staging
from sprat_controller.trust.folder import Metadata, save, stage
from sprat_proto.trust import DIRECTOR, IMAGE, Repository

OFFLINE = ImageKeys()
ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
ROOT = make_root(ROOT_KEY, NOW)


@pytest.fixture(autouse=True)
def no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust none of the system's authorities: reading them takes longer than a call does."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)


@pytest.fixture
def api() -> OperatorApi:
    made = OperatorApi()
    made.add_device("gw-1", labels={"site": "lyon"})
    made.add_device("cam-1", labels={"site": "oslo"}, simulated=True, state="PENDING")
    made.trust["image"] = OFFLINE.found(NOW)
    made.trust["director"] = OFFLINE.found_director(NOW)
    what = {"model": "talk", "release": "1.0.0", "alias": "assistant"}
    made.plans["p-1"] = {**what, "labels": {}, "devices": []}
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


def write_root_key(folder: Path) -> Path:
    """Write a root's key and return where it is."""
    write_key(folder / "image-root-1.pem", OFFLINE.root["image-root-1"])
    return folder / "image-root-1.pem"


def ceremony_folder(folder: Path) -> Path:
    """Return a folder with published metadata and a root that all holders have signed."""
    published: dict[Repository, Metadata] = {
        IMAGE: Metadata(IMAGE, OFFLINE.found(NOW)),
        DIRECTOR: Metadata(DIRECTOR, OFFLINE.found_director(NOW)),
    }
    for metadata in published.values():
        save(folder, metadata)
    staged = staging.plan(published, staging.Wanted(roots=[IMAGE]), NOW).files
    for key in OFFLINE.root.values():
        staged = staging.sign(published, staged, key)
    for metadata in staged.values():
        stage(folder, metadata)
    return folder


def issuer_files(folder: Path) -> dict[str, Path]:
    """Write the root's certificate and key, and an issuer's next public key."""
    made = {name: folder / name for name in ("ca", "root_key", "issuer_pub")}
    made["ca"].write_bytes(ROOT.public_bytes(Encoding.PEM))
    made["root_key"].write_bytes(
        ROOT_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    made["root_key"].chmod(0o600)
    made["issuer_pub"].write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
    return made


@pytest.fixture
def files(tmp_path: Path, gguf_file: Path, api: OperatorApi) -> dict[str, Path]:
    """Files that a person may name, good ones and bad ones."""
    private, public, key = generate_key_files(tmp_path / "key", None)
    api.lists["publishers"].append({"name": "me", "key_ids": [key.key_id], "created_at": CREATED})
    offline = tmp_path / "offline"
    offline.mkdir()
    for name, held in OFFLINE.targets.items():
        write_key(offline / f"{name}.pem", held)
    (offline / "passphrase").write_text("open sesame\n")
    (tmp_path / "policy").write_text('{"schema": 1, "approvers": [], "groups": []}')
    (tmp_path / "fleet").write_text("schema: 1\n")
    made = {
        "gguf": gguf_file,
        "key": private,
        "key_base": tmp_path / "key",
        "pub": public,
        "new": tmp_path / "new",
        "folder": tmp_path,
        "offline": offline,
        "offline_key": write_root_key(offline),
        "ceremony": ceremony_folder(tmp_path / "ceremony"),
        "policy": tmp_path / "policy",
        "fleet": tmp_path / "fleet",
        **issuer_files(tmp_path),
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
