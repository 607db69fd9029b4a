"""A call imports what its own verbs need and no more; `sprat --help` says what the verbs say."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sprat_controller.cli.parts import PARTS, commands_of

LIST = """
import sys

from sprat_controller.cli.main import app

try:
    app(["--help"])
except SystemExit as ended:
    assert not ended.code, ended.code
    sys.stderr.write(" ".join(sys.modules))
"""
CALL = """
import sys

import httpx
from sprat_controller.cli.main import app
from sprat_controller.cli.verbs import Surroundings

empty = httpx.MockTransport(lambda _: httpx.Response(200, json={"items": []}))
environ = {"SPRAT_URL": "https://controller.test", "SPRAT_TOKEN": "t", "HOME": "/nowhere"}
try:
    app(sys.argv[1:], obj=Surroundings(transport=empty, environ=environ))
except SystemExit as ended:
    assert not ended.code, ended.code
    sys.stderr.write(" ".join(sys.modules))
"""
# What signs, what makes models, what keeps the controller's rows, what draws QR codes.
HEAVY = {
    *("tuf", "securesystemslib", "pkcs11", "cryptography", "urllib3", "numpy", "gguf"),
    *("sqlalchemy", "sqlmodel", "fastapi", "grpc", "segno"),
    *("sprat_controller.publisher.push", "sprat_controller.cli.statuses"),
}


def imported_by(program: str, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *words], check=True, capture_output=True, text=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "words",
    ["devices list", "rollout list", "users list", "tokens list", "channels list talk"],
)
def test_a_call_that_signs_nothing_imports_nothing_of_weight(words: str) -> None:
    imported = imported_by(CALL, *words.split())
    assert f"sprat_controller.cli.{PARTS[words.split(maxsplit=1)[0]].modules[0]}" in imported
    assert not HEAVY & imported


def test_the_list_of_verbs_imports_none_of_them() -> None:
    imported = imported_by(LIST)
    modules = {f"sprat_controller.cli.{name}" for part in PARTS.values() for name in part.modules}
    assert "sprat_controller.cli.main" in imported
    assert not (HEAVY | modules | {"httpx", "msgspec"}) & imported


@pytest.mark.parametrize("word", PARTS)
def test_the_list_of_verbs_says_what_they_say(word: str) -> None:
    command = commands_of(PARTS[word])[word]
    assert " ".join(command.help.split("\n\n")[0].split()) == PARTS[word].help


def test_the_list_of_verbs_leaves_none_out() -> None:
    added = {word for part in PARTS.values() for word in commands_of(part)}
    assert added == set(PARTS)
