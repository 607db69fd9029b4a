from __future__ import annotations

import msgspec
import pytest
from simulators.shapes import QWEN3_06B, facts
from sprat_proto import quality
from sprat_proto.manifest import Evaluation

F16 = facts(QWEN3_06B, "f16")
Q4 = facts(QWEN3_06B, "q4_0")
EVALUATION = Evaluation("f16", "7" * 64, 1000, 12_000, 1, 1, 48_000)


def test_a_loss_is_what_the_evaluation_says() -> None:
    assert quality.loss_ppm(Q4, EVALUATION) == 48_000
    assert quality.loss_ppm(F16, EVALUATION) == 48_000


def test_what_was_not_quantized_lost_nothing() -> None:
    assert quality.loss_ppm(F16, None) == 0
    assert quality.loss_ppm(Q4, None) is None


@pytest.mark.parametrize(("name", "loss"), [("bf16", 0), ("f32", 0), ("f16", 0), ("q8_0", None)])
def test_without_tensor_types_the_form_is_what_its_name_says(name: str, loss: int | None) -> None:
    bare = msgspec.structs.replace(Q4, tensor_bytes={}, quantization=name)
    assert quality.loss_ppm(bare, None) == loss


def test_a_name_does_not_make_a_quantized_file_lossless() -> None:
    assert quality.loss_ppm(msgspec.structs.replace(Q4, quantization="f16"), None) is None


def test_bits_per_weight_are_of_all_weights() -> None:
    assert 16_000 <= quality.bits_per_weight_milli(F16) < 16_100
    assert 4_500 < quality.bits_per_weight_milli(Q4) < 5_200
