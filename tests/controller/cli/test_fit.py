from __future__ import annotations

import json
from pathlib import Path

from simulators.operator_api import OperatorApi
from simulators.sprat_command import Sprat


def test_each_variant_is_told_with_its_numbers_and_its_reason(sprat: Sprat) -> None:
    said = sprat("fit", "talk@1.0.0", "--device", "cam-1")
    assert [line[0:2] for line in said.lines] == [
        ["q8_0", "INSUFFICIENT_MEMORY"],
        ["q4_0", "chosen"],
    ]
    assert said.lines[0][-1] == "needs 121 MiB of memory, the budget is 115 MiB"
    assert sprat("fit", "talk", "--class", "abc", "-o", "json").json["chosen"] == "q4_0"


def test_what_is_asked_is_sent(sprat: Sprat, tmp_path: Path) -> None:
    profile = tmp_path / "board.json"
    profile.write_text(json.dumps({"arch": "aarch64"}), encoding="utf-8")
    sprat("fit", "talk", "--profile", str(profile), "--context", "512", "--aim", "smallest")
    body = sprat.api.bodies[-1]
    assert (body["model"], body["release"], body["profile"]) == ("talk", None, {"arch": "aarch64"})
    assert body["context"] == 512
    assert body["policy"]["aim"] == "smallest"


def test_the_matrix_is_a_table_and_a_picture(sprat: Sprat, tmp_path: Path) -> None:
    picture = tmp_path / "matrix.svg"
    said = sprat("matrix", "talk@1.0.0", "--picture", str(picture))
    assert said.lines == [["c0ffee (simulated)", "2", "Pi 5", "1.00 GiB", "q4_0"]]
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    again = sprat("matrix", "--picture", str(picture))
    assert again.status == 1
    assert "is there already" in again.errors


def test_nothing_fits_is_said_too(sprat: Sprat, api: OperatorApi) -> None:
    api.fitting = None
    said = sprat("fit", "talk@1.0.0", "--device", "cam-1")
    assert said.status == 0
    assert "no variant of talk@1.0.0 fits" in said.errors
