from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from sprat_controller.publisher.evaluate.evaluate import Scores
from sprat_controller.publisher.report import (
    FORMS,
    Findings,
    to_document,
    to_markdown,
    to_text,
    write,
)

FOUND = Findings(
    model="talk",
    release="1.0.0",
    reference="f16",
    text_sha256="7" * 64,
    machine="x86_64 with 2 cores",
    scores=[
        Scores("f16", 2 << 20, 255, 9.0, 0.0, 1.0, 100.0, 20.0),
        Scores("q4_0", 1 << 20, 255, 9.5, math.log1p(0.08), 0.9, 300.0, 50.0),
    ],
    dropped=["q4_0"],
)


def test_the_document_has_all_figures() -> None:
    document = to_document(FOUND)
    assert document["text_sha256"] == "7" * 64
    assert document["dropped"] == ["q4_0"]
    f16, q4_0 = document["variants"]
    assert f16["quality_loss"] == 0
    assert q4_0["quality_loss"] == pytest.approx(0.08)
    assert q4_0["bytes"] == 1 << 20


def test_the_page_is_a_table_that_says_on_what() -> None:
    page = to_markdown(FOUND)
    assert page.startswith("# talk@1.0.0: what its variants lost\n")
    assert "Compared with f16 on the text 777777777777; rates on x86_64 with 2 cores." in page
    assert [line.count("|") for line in page.splitlines() if line.startswith("|")] == [9] * 4
    assert "Not published: q4_0." in page
    slow = [dataclasses.replace(one, prefill_tps=0.0, decode_tps=0.0) for one in FOUND.scores]
    assert "rates on" not in to_markdown(dataclasses.replace(FOUND, scores=slow))


def test_lines_stand_in_columns() -> None:
    lines = to_text(FOUND)
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines] == ["variant", "f16", "q4_0"]


@pytest.mark.parametrize("ending", FORMS)
def test_a_file_is_written_whole_in_place_of_what_was_there(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"report{ending}"
    path.write_text("old")
    write(FOUND, path)
    text = path.read_text()
    assert "talk" in text
    assert "q4_0" in text
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    if ending == ".json":
        assert json.loads(text) == to_document(FOUND)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    with pytest.raises(OSError, match="directory"):
        write(FOUND, tmp_path / "report.md")
    assert [one.name for one in tmp_path.iterdir()] == ["report.md"]
