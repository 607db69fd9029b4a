from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

from simulators.small_matrix import CLASSES, PHI, QWEN, TERMS
from sprat_controller.rollout.compatibility import judging
from sprat_controller.rollout.compatibility.judging import ReleaseVariants
from sprat_controller.rollout.compatibility.picture import draw


def drawn(*releases: ReleaseVariants) -> tuple[dict[str, Any], str]:
    cells = judging.matrix(CLASSES, releases, TERMS)
    answer = {
        "classes": [judging.class_json(one) for one in CLASSES],
        "releases": [judging.release_json(one) for one in releases],
        "cells": [judging.cell_json(cell) for cell in cells],
    }
    return answer, draw(answer)


def test_a_picture_of_one_release_has_a_column_for_each_variant() -> None:
    answer, picture = drawn(QWEN)
    ET.fromstring(picture)  # noqa: S314 - our own
    for variant in ("f16", "q8_0", "q5_1", "q4_k_m", "q4_0"):
        assert f">{variant}<" in picture
    chosen = [cell["chosen"] for cell in answer["cells"]]
    blacks = re.findall(r'<circle[^>]*fill="black"', picture)
    assert len(blacks) == sum(one is not None for one in chosen) + 1  # and the legend's
    assert picture.count(">memory<") == 5  # the board of 1 GB
    assert picture.count(">hardware<") == 5


def test_a_picture_of_several_has_one_for_each_with_what_would_be_chosen() -> None:
    answer, picture = drawn(QWEN, PHI)
    ET.fromstring(picture)  # noqa: S314 - our own
    assert ">qwen3-0.6b@1.0.0<" in picture
    assert ">phi-4-mini@1.0.0<" in picture
    for cell in answer["cells"]:
        if cell["chosen"] is None:
            assert cell["verdicts"][-1]["message"].split(",")[0] in picture
        else:
            assert f">{cell['chosen']}<" in picture


def test_a_fleet_without_devices_is_drawn_too() -> None:
    empty = {"classes": [], "releases": [judging.release_json(QWEN)], "cells": []}
    ET.fromstring(draw(empty))  # noqa: S314 - our own
