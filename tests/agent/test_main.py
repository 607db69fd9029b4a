"""The command line: one sentence and an exit status, never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from sprat_agent import config
from sprat_agent.config import RunConfig
from sprat_agent.errors import StartupError
from sprat_agent.main import main
from sprat_agent.ready_file import ReadyFile


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--state", "{}"], "no enrolled device"),
        (["status", "--state", "{}"], "no agent is running"),
        (
            ["enrol", "--controller", "https://127.0.0.1:1", "--token", "x", "--state", "{}"],
            "enrolment token",
        ),
        (
            [
                *("enrol", "--controller", "https://127.0.0.1:1", "--token", "x"),
                *("--state", "{}", "--publisher-key", "me=/nowhere"),
            ],
            "publisher key me",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main([one.format(tmp_path) for one in arguments]) == 1
    errors = capsys.readouterr().err
    assert said in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "--state", "x", "--carrier", "pigeon"],
        ["enrol", "--state", "x", "--controller", "u", "--token", "t", "--publisher-key", "nofile"],
    ],
)
def test_wrong_arguments_end_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_socket_is_in_the_state_folder_unless_said_otherwise() -> None:
    assert config.parse(["run", "--state", "d"]) == RunConfig(
        Path("d"), "127.0.0.1:7772", Path("d/sprat.sock"), None, "auto"
    )
    other = config.parse(["run", "--state", "d", "--socket", "/run/s.sock"])
    assert isinstance(other, RunConfig)
    assert other.socket == Path("/run/s.sock")


def test_the_ready_file_appears_whole_and_goes(tmp_path: Path) -> None:
    file = ReadyFile(tmp_path)
    file.write("http://127.0.0.1:1", tmp_path / "s")
    assert json.loads((tmp_path / "agent.json").read_text()) == {
        "pid": os.getpid(),
        "http": "http://127.0.0.1:1",
        "socket": str(tmp_path / "s"),
    }
    assert file.read().pid == os.getpid()
    file.remove()
    with pytest.raises(StartupError):
        file.read()
    (tmp_path / "agent.json").write_text("{")
    with pytest.raises(StartupError):
        file.read()
