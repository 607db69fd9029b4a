"""The command line: one sentence and an exit status, never a traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
from simulators.enrolment_api import EnrolmentApi
from sprat_agent import config
from sprat_agent.config import NetworkConfig, RunConfig
from sprat_agent.errors import StartupError
from sprat_agent.identity.identity import load
from sprat_agent.main import main
from sprat_agent.measuring import occasion, process
from sprat_agent.profile import probe
from sprat_agent.ready_file import ReadyFile
from sprat_proto.claim import ClaimFile, write_file
from sprat_proto.rates import Measured, TypeCost


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
                *("--state", "{}", "--image-root", "/nowhere"),
            ],
            "the root to pin cannot be read",
        ),
        (["enrol", "--claim", "/nowhere", "--state", "{}"], "the claim file /nowhere"),
        (
            [
                *("enrol", "--controller", "https://127.0.0.1:1", "--token", "x", "--state", "{}"),
                *("--identity-key", "pkcs11:object=x"),
            ],
            "enrolment token",
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
        ["run", "--state", "x", "--prefixes", "-1"],
        ["run", "--state", "x", "--prefixes", "much"],
        ["enrol", "--state", "x"],
        ["enrol", "--state", "x", "--controller", "u"],
        ["enrol", "--state", "x", "--controller", "u", "--token", "t", "--claim", "f"],
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


def test_prefixes_of_prompts_may_take_so_much_of_the_disk_or_nothing() -> None:
    for said, size in ((["--prefixes", "64"], 64 << 20), (["--prefixes", "0"], 0), ([], 256 << 20)):
        found = config.parse(["run", "--state", "d", *said])
        assert isinstance(found, RunConfig)
        assert found.prefix_bytes == size


def test_a_device_measures_itself_unless_it_is_told_not_to() -> None:
    for said, expected in ([], True), (["--no-measure"], False), (["--measure"], True):
        found = config.parse(["run", "--state", "d", *said])
        assert isinstance(found, RunConfig)
        assert found.is_measured is expected


def test_a_device_is_measured_by_hand(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = Measured(1, "e", 2, 3, 4, 5, 6, (TypeCost("q4_0", 7, 8),))
    said: list[process.Terms] = []

    async def measure(terms: process.Terms, _folder: Path) -> Measured:
        said.append(terms)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "measure", measure)
        assert main(["measure", "--state", str(tmp_path)]) == 0
        assert msgspec.json.decode(capsys.readouterr().out, type=Measured) == found
        patch.setattr(probe, "memory_available", lambda: 100 << 20)
        assert main(["measure"]) == 1
    assert [one.model_bytes >= occasion.LEAST_MODEL_BYTES for one in said] == [True]
    assert "104857600 are available" in capsys.readouterr().err


def test_what_the_network_takes_is_said_on_the_command_line() -> None:
    found = config.parse(
        [
            *("run", "--state", "d", "--network", "0.0.0.0:7773", "--tls-certificate", "c"),
            *("--tls-key", "k", "--api-keys", "a", "--host-name", "gw.lan", "--host-name", "::1"),
        ]
    )
    assert isinstance(found, RunConfig)
    assert found.network == NetworkConfig(
        "0.0.0.0:7773", Path("c"), Path("k"), Path("a"), ("gw.lan", "::1")
    )


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


@pytest.fixture
def api(tmp_path: Path) -> Generator[EnrolmentApi]:
    made = EnrolmentApi(tmp_path)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_an_image_enrols_by_itself_at_its_first_start_only(
    api: EnrolmentApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = '{"signed":{"_type":"root","version":9}}'
    file, state = tmp_path / "claim.json", tmp_path / "state"
    file.write_bytes(write_file(ClaimFile(api.url, api.token, root)))
    arguments = ["enrol", "--claim", str(file), "--state", str(state)]
    assert main(arguments) == 0
    assert "enrolled as pond-1" in capsys.readouterr().out
    assert load(state).image_root == root.encode()
    assert not file.exists()
    assert main(arguments) == 0
    assert capsys.readouterr().out == "enrolled already\n"
    assert len(api.asked) == 1


def test_an_image_whose_first_answer_was_lost_enrols_at_the_next_start(
    api: EnrolmentApi, tmp_path: Path
) -> None:
    file, state = tmp_path / "claim.json", tmp_path / "state"
    file.write_bytes(write_file(ClaimFile(api.url, api.token)))
    api.lose_replies = 1
    arguments = ["enrol", "--claim", str(file), "--state", str(state)]
    assert main(arguments) == 1
    assert file.exists()
    assert main(arguments) == 0
    assert load(state).device_id == "pond-1"
