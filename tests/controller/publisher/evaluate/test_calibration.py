from __future__ import annotations

import hashlib

from sprat_controller.publisher.evaluate import calibration


def test_the_default_text_is_long_enough_to_be_scored() -> None:
    words = calibration.default_text().split()
    assert 1500 <= len(words) <= 2500


def test_it_is_varied() -> None:
    text = calibration.default_text()
    assert len(set(text.lower().split())) > 800
    assert all(part in text for part in ("import json", "SELECT", '"device": "barn-07"'))
    assert "Ich brauche" in text
    assert "chaque appareil" in text


def test_a_text_is_named_by_its_bytes() -> None:
    text = "Grüße"
    assert calibration.sha256_of(text) == hashlib.sha256(text.encode()).hexdigest()
