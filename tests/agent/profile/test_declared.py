"""The declared profile of a simulated device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sprat_agent.profile import declared
from sprat_proto.fit import MIB, CoreKind
from sprat_proto.rates import Measured, TypeCost

DECLARED: dict[str, Any] = {
    "arch": "aarch64",
    "cores": 4,
    "cpu_features": ["asimd"],
    "memory_bytes": 1024 * MIB,
    "memory_budget_bytes": 600 * MIB,
    "disk_free_bytes": 8192 * MIB,
    "accelerators": [],
    "os": "Raspberry Pi OS",
    "runtimes": ["llama.cpp"],
}


def declare(tmp_path: Path, fields: object) -> Path:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(fields))
    return path


@pytest.mark.parametrize("said", [{}, {"simulated": False}, {"simulated": True}])
def test_a_declared_profile_is_simulated_whatever_it_says(
    tmp_path: Path, said: dict[str, bool]
) -> None:
    profile = declared.read(declare(tmp_path, {**DECLARED, **said}))
    assert profile.simulated
    assert (profile.arch, profile.cores, profile.cpu_features) == ("aarch64", 4, ("asimd",))
    assert profile.memory_budget_bytes == 600 * MIB


def test_a_declaration_may_say_all_that_is_known_of_a_device(tmp_path: Path) -> None:
    measured = {
        "bandwidth": 4_000_000_000,
        "step_ns": 100,
        "layer_ns": 30,
        "kv_fs": 500,
        "look_fs": 60,
        "costs": [{"kind": "q4_0", "decode_fs": 250_000, "prefill_fs": 40_000}],
    }
    fields = {
        **DECLARED,
        "processor": "Raspberry Pi 4",
        "core_kinds": [{"count": 2, "max_mhz": 1500}, {"count": 2, "capacity": 512}],
        "cpu_quota_milli": 1500,
        "memory_limit_bytes": 900 * MIB,
        "memory_available_bytes": 700 * MIB,
        "throttle_permille": 100,
        "power": "battery",
        "measured": measured,
    }
    profile = declared.read(declare(tmp_path, fields))
    assert profile.processor == "Raspberry Pi 4"
    assert profile.core_kinds == (CoreKind(2, 1024, 1500), CoreKind(2, 512))
    assert (profile.cpu_quota_milli, profile.throttle_permille) == (1500, 100)
    assert (profile.memory_limit_bytes, profile.memory_available_bytes) == (900 * MIB, 700 * MIB)
    assert profile.power == "battery"
    assert profile.measured == Measured(
        at_ms=0,
        engine="declared",
        threads=4,
        bandwidth=4_000_000_000,
        step_ns=100,
        layer_ns=30,
        kv_fs=500,
        costs=(TypeCost("q4_0", 250_000, 40_000),),
        look_fs=60,
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({**DECLARED, "gpu": "big"}, "unknown field `gpu`"),
        (
            {key: DECLARED[key] for key in DECLARED if key != "arch"},
            "missing required field `arch`",
        ),
        ({**DECLARED, "power": "coal"}, r"Invalid enum value 'coal' - at `\$.power`"),
        ({**DECLARED, "throttle_permille": 1001}, r"<= 1000 - at `\$.throttle_permille`"),
        ({**DECLARED, "cores": 0}, r"`int` >= 1 - at `\$.cores`"),
        ({**DECLARED, "cores": "four"}, r"Expected `int`, got `str` - at `\$.cores`"),
        ([], "Expected `object`"),
    ],
)
def test_a_wrong_declaration_is_one_clear_sentence(
    tmp_path: Path, fields: object, sentence: str
) -> None:
    with pytest.raises(declared.ProfileError, match=sentence) as caught:
        declared.read(declare(tmp_path, fields))
    assert "profile.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_declaration_that_is_not_there_or_not_json_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(declared.ProfileError, match="No such file"):
        declared.read(tmp_path / "nothing.json")
    path = tmp_path / "bytes.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(declared.ProfileError, match="not valid"):
        declared.read(path)
