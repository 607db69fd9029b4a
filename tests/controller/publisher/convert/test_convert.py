from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from gguf import GGUFReader, dequantize
from simulators import hf_models, hf_tokenizers
from simulators.hf_models import HfModel
from sprat_controller.publisher import ternary
from sprat_controller.publisher.convert.convert import (
    Converted,
    ConvertError,
    convert,
    is_model_folder,
)
from sprat_controller.publisher.quantize import kind_of, quantize
from sprat_proto import gguf

EMBEDDING: Final = "model.embed_tokens.weight"


def unheard(_name: str, _done: int, _total: int) -> None:
    """Nobody watches."""


def made(tmp_path: Path, model: HfModel | str, **options: Any) -> Converted:
    folder = tmp_path / "folder"
    if isinstance(model, str):
        hf_models.write(folder, model)
    else:
        hf_models.write_model(folder, model)
    return convert(folder, tmp_path / "out.gguf", report=unheard, **options)


def refused(folder: Path, **options: Any) -> str:
    target = folder.parent / "out.gguf"
    with pytest.raises(ConvertError) as caught:
        convert(folder, target, report=unheard, **options)
    assert not target.exists()
    assert list(target.parent.glob(".*")) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def text(path: Path, key: str) -> str:
    return str(gguf.check(path).metadata[key])


def tensor(path: Path, name: str) -> Any:
    return next(one.data for one in GGUFReader(path).tensors if one.name == name)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("llama", "llama"), ("qwen3", "qwen3"), ("gemma3", "gemma3"), ("phi3", "phi3")],
)
def test_a_publisher_is_told_what_was_made(tmp_path: Path, kind: str, architecture: str) -> None:
    done = made(tmp_path, kind)
    file = gguf.check(done.path)
    assert (done.architecture, file.architecture) == (architecture, architecture)
    assert done.path == tmp_path / "out.gguf"
    assert done.licence == "apache-2.0"
    assert done.chat_template == hf_tokenizers.CHAT
    assert done.parameters == sum(one.elements for one in file.tensors)
    assert not done.is_ternary
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out.gguf"]


def test_what_was_made_is_f16_and_can_be_quantized(tmp_path: Path) -> None:
    done = made(tmp_path, "qwen3")
    assert kind_of(gguf.check(done.path)) == "f16"
    quantize(done.path, tmp_path / "small.gguf", "q4_0")
    assert (tmp_path / "small.gguf").stat().st_size < done.path.stat().st_size


def test_the_same_folder_makes_the_same_bytes(tmp_path: Path) -> None:
    first = made(tmp_path, "phi3-longrope").path.read_bytes()
    assert made(tmp_path, "phi3-longrope").path.read_bytes() == first


def test_shards_make_what_one_file_makes(tmp_path: Path) -> None:
    whole = made(tmp_path / "a", "llama").path.read_bytes()
    assert made(tmp_path / "b", "llama-sharded").path.read_bytes() == whole


def test_a_ternary_model_says_so_and_has_three_numbers_a_layer(tmp_path: Path) -> None:
    done = made(tmp_path, "bitnet")
    assert done.is_ternary
    numbers = np.unique(tensor(done.path, "blk.0.ffn_up.weight"))
    assert len(numbers) == 3
    assert numbers[1] == 0
    assert numbers[0] == -numbers[2]


def test_a_ternary_model_loses_nothing_as_tq2_0(tmp_path: Path) -> None:
    done = made(tmp_path, hf_models.bitnet(hidden_size=256, intermediate_size=512))
    assert ternary.fault_of(done.path) is None
    quantize(done.path, tmp_path / "small.gguf", "tq2_0")
    small = next(
        one for one in GGUFReader(tmp_path / "small.gguf").tensors
        if one.name == "blk.1.ffn_down.weight"
    )  # fmt: skip
    assert small.tensor_type.name == "TQ2_0"
    exact = tensor(done.path, "blk.1.ffn_down.weight").astype(np.float32)
    assert np.array_equal(dequantize(small.data, small.tensor_type), exact)


def test_progress_is_told_in_bytes_up_to_the_whole(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    folder = hf_models.write(tmp_path / "folder", "llama3")

    def tell(name: str, done: int, total: int) -> None:
        told.append((name, done, total))

    convert(folder, tmp_path / "out.gguf", report=tell)
    file = gguf.check(tmp_path / "out.gguf")
    assert {name for name, _, _ in told} == {one.name for one in file.tensors}
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    assert {total for _, _, total in told} == {sum(one.size for one in file.tensors)}
    assert told[-1][1] == told[-1][2]


def test_someone_who_stops_watching_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(_name: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    folder = hf_models.write(tmp_path / "folder", "llama")
    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / "out.gguf", report=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("kind", ["llama", "bitnet", "gemma3-f16"])
def test_large_tensors_are_written_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = made(tmp_path / "a", kind).path.read_bytes()
    monkeypatch.setattr("sprat_controller.publisher.convert.tensors._PIECE_BYTES", 1000)
    assert made(tmp_path / "b", kind).path.read_bytes() == whole


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_folder_has_a_config_and_safetensors(tmp_path: Path, name: str) -> None:
    folder = hf_models.write(tmp_path / "folder", "llama")
    assert is_model_folder(folder)
    (folder / name).unlink()
    assert not is_model_folder(folder)
    assert not is_model_folder(folder / "README.md")
    assert not is_model_folder(tmp_path / "nowhere")


def test_a_sharded_folder_is_a_model_folder(tmp_path: Path) -> None:
    assert is_model_folder(hf_models.write(tmp_path / "folder", "llama-sharded"))


_NOT_CONVERTED: Final[Mapping[str, tuple[str, Mapping[str, Any], str]]] = {
    "another architecture": ("llama", {"architectures": ["MistralForCausalLM"]}, "is not one of"),
    "no architecture": ("llama", {"architectures": []}, "is not one of"),
    "BitNet 2B-4T": ("llama", {"architectures": ["BitNetForCausalLM"]}, "b1.58-2B-4T"),
    "older BitNet": ("llama", {"architectures": ["BitnetForCausalLM"]}, "older BitNet"),
    "images": ("gemma3", {"architectures": ["Gemma3ForConditionalGeneration"]}, "images"),
    "a vision part": ("llama", {"vision_config": {"depth": 1}}, "multimodal"),
    "experts": ("llama", {"num_local_experts": 8}, "mixture of experts"),
    "another activation": ("llama", {"hidden_act": "relu2"}, "activation silu, found 'relu2'"),
    "a scaling": ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2}}, "RoPE scaling"),
    "a scaling's field": ("qwen3", {"rope_scaling": {"mrope_section": [1]}}, "mrope_section"),
    "longrope in llama": ("llama", {"rope_scaling": {"type": "longrope"}}, "RoPE scaling"),
    "part of a head": ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "no factor": ("llama", {"rope_scaling": {"type": "linear"}}, "expected factor"),
    "factors in vain": (
        "phi3",
        {"rope_scaling": {"type": "su", "long_factor": [1.0], "short_factor": [1.0]}},
        "expected 8 long and short factors",
    ),
    "a window": ("qwen3", {"use_sliding_window": True}, "use_sliding_window"),
    "another pattern": ("gemma3", {"sliding_window_pattern": 4}, "sliding_window_pattern"),
    "another new pattern": (
        "gemma3",
        {"sliding_window_pattern": None, "_sliding_window_pattern": 5},
        "sliding_window_pattern",
    ),
    "another order": ("gemma3", {"layer_types": ["full_attention"] * 6}, "layer_types"),
    "another scale": ("gemma3", {"query_pre_attn_scalar": 64}, "query_pre_attn_scalar"),
    "both ways": ("gemma3", {"use_bidirectional_attention": True}, "causal"),
    "biases": ("qwen3", {"attention_bias": True}, "biases"),
    "softcapping": ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    "quantized": ("llama", {"quantization_config": {"quant_method": "gptq"}}, "'gptq'"),
    "another BitNet layer": (
        "bitnet",
        {"quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear"}},
        "autobitlinear",
    ),
    "uneven heads": ("llama", {"num_attention_heads": 5}, "share the embedding"),
    "a wrong shape": ("llama", {"intermediate_size": 256}, "mlp.gate_proj.weight of shape"),
    "a block too few": ("llama", {"num_hidden_layers": 1}, "tensors of the architecture alone"),
    "a block too many": ("llama", {"num_hidden_layers": 3}, "model.layers.2.input_layernorm"),
    "fewer rows": ("llama", {"vocab_size": 300}, "embed_tokens.weight of shape (300, 64)"),
    "a word": ("llama", {"hidden_size": "64"}, "config.json"),
}


@pytest.mark.parametrize("case", _NOT_CONVERTED)
def test_what_is_not_converted_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    kind, changes, said = _NOT_CONVERTED[case]
    folder = hf_models.write(tmp_path / "folder", kind)
    edit(folder / "config.json", lambda config: config.update(changes))
    assert said in refused(folder)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "config.json" in refused(tmp_path / "folder")


def test_a_folder_of_an_embedding_model_is_refused(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "qwen3")
    (folder / "modules.json").write_text("[]")
    assert "embeds" in refused(folder)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "llama")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in refused(folder)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "llama")
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer.json").unlink()
    assert "tokenizer" in refused(folder)


def test_a_lost_shard_and_a_wrong_index_are_refused(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "llama-sharded")
    index = folder / "model.safetensors.index.json"
    first = "model-00001-of-00003.safetensors"
    places = json.loads(index.read_text())["weight_map"]
    name = next(key for key, place in places.items() if place == first)

    def say(file: str) -> str:
        edit(index, lambda content: content["weight_map"].update({name: file}))
        return refused(folder)

    assert "to name safetensors in its folder" in say("../other.safetensors")
    assert f"found it in {first}" in say("model-00002-of-00003.safetensors")
    edit(index, lambda content: content["weight_map"].update({name: first, "more": first}))
    assert "expected tensor 'more'" in refused(folder)
    edit(index, lambda content: content["weight_map"].pop("more"))
    (folder / first).unlink()
    assert first in refused(folder)


def with_tensor(tmp_path: Path, name: str, change: Callable[[Any], Any], kind: str) -> Path:
    """Write a model in single precision whose tensor `name` was changed."""
    model = hf_models.KINDS[kind]()
    numbers: dict[str, Any] = {
        key: np.full(shape, 0.1, dtype=np.float32) for key, shape in model.shapes.items()
    }
    numbers |= model.extra
    numbers[name] = change(numbers[name])
    other = HfModel(model.config, {}, model.tokenizer, extra=numbers)
    return hf_models.write_model(tmp_path / "folder", other)


@pytest.mark.parametrize("number", [np.nan, np.inf, -70_000.0])
def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path: Path, number: float) -> None:
    def change(array: Any) -> Any:
        array[3, 5] = number
        return array

    folder = with_tensor(tmp_path, "model.layers.1.mlp.up_proj.weight", change, "llama")
    assert "mlp.up_proj.weight that float16 can hold" in refused(folder)


def test_norms_may_be_larger_than_half_precision_holds(tmp_path: Path) -> None:
    folder = with_tensor(tmp_path, "model.norm.weight", lambda array: array + 1e6, "llama")
    convert(folder, tmp_path / "out.gguf", report=unheard)
    assert tensor(tmp_path / "out.gguf", "output_norm.weight").min() > 1e6


@pytest.mark.parametrize("dtype", ["U8", "F8_E4M3", "I32"])
def test_weights_of_another_type_are_refused(tmp_path: Path, dtype: str) -> None:
    folder = hf_models.write(tmp_path / "folder", "llama")
    size = 4 if dtype == "I32" else 1
    hf_models.write_safetensors(
        folder / "model.safetensors", {EMBEDDING: (dtype, (448, 64), bytes(448 * 64 * size))}
    )
    assert f"{EMBEDDING} as BF16, F16, F32, found {dtype}" in refused(folder)


def test_a_tied_head_that_is_no_copy_is_refused(tmp_path: Path) -> None:
    folder = with_tensor(tmp_path, "lm_head.weight", lambda array: array * 2, "qwen3-copied-head")
    assert "to be a copy of" in refused(folder)


def test_ternary_layers_need_three_codes_and_a_scale(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    wrong = with_tensor(tmp_path, name, lambda array: array | np.uint8(0b11), "bitnet")
    assert "expected -1, 0 and 1" in refused(wrong)
    zero = with_tensor(tmp_path, f"{name}_scale", lambda array: array * 0, "bitnet")
    assert "expected a scale" in refused(zero)
    two = with_tensor(tmp_path, f"{name}_scale", lambda array: np.tile(array, 2), "bitnet")
    assert "expected one number" in refused(two)


def test_tables_that_are_computed_anew_are_passed_over(tmp_path: Path) -> None:
    model = hf_models.llama()
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(8, dtype=np.float32)}
    plain = made(tmp_path / "a", model).path.read_bytes()
    other = HfModel(model.config, model.shapes, model.tokenizer, extra=more)
    assert made(tmp_path / "b", other).path.read_bytes() == plain


def test_an_unknown_pre_tokenizer_is_refused_until_it_is_named(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "qwen3")

    def change(tokenizer: Any) -> None:
        tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{L}+|."

    edit(folder / "tokenizer.json", change)
    assert "name the pre-tokenizer with `pre`" in refused(folder)
    assert "expected a name such as" in refused(folder, pre="Not a name")
    convert(folder, tmp_path / "out.gguf", pre="deepseek-llm", report=unheard)
    assert text(tmp_path / "out.gguf", "tokenizer.ggml.pre") == "deepseek-llm"


def test_a_pre_tokenizer_for_sentencepiece_is_refused(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "gemma3")
    assert "byte-level" in refused(folder, pre="qwen2")


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("model", "type"), "Unigram", "byte pairs"),
        (("model", "end_of_word_suffix"), "</w>", "affixes"),
        (("normalizer",), {"type": "Lowercase"}, "normalizer of NFC"),
        (("post_processor",), {"type": "RobertaProcessing"}, "post-processor"),
        (("model", "merges"), ["q z"], "merges of tokens"),
        (("model", "merges"), ["q"], "merges of tokens"),
        (("model", "merges"), [["q"]], "tokenizer.json"),
        (("model", "vocab"), {"a": 1, "b": 1}, "each token id once"),
        (("model", "vocab"), {"a": 448}, "below 448"),
        (("added_tokens",), [{"id": 3, "content": "!!"}], "expected token 3 to be"),
        (("added_tokens",), [{"id": 448, "content": "!!"}], "below 448"),
        (("added_tokens",), [{"id": 447, "content": "a"}], "once, found one twice"),
    ],
)
def test_tokenizers_that_are_not_sound_are_refused(
    tmp_path: Path, where: tuple[str, ...], value: Any, said: str
) -> None:
    folder = hf_models.write(tmp_path / "folder", "qwen3")
    (folder / "tokenizer_config.json").unlink()

    def change(tokenizer: Any) -> None:
        for key in where[:-1]:
            tokenizer = tokenizer[key]
        tokenizer[where[-1]] = value

    edit(folder / "tokenizer.json", change)
    assert said in refused(folder)


def test_a_sentencepiece_normalizer_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "llama-spm-json")
    edit(folder / "tokenizer.json", lambda content: content.update(normalizer={"type": "NFKC"}))
    assert "SentencePiece's normalizer, found NFKC" in refused(folder)


@pytest.mark.parametrize(("scheme", "is_told"), [("first", False), ("never", True)])
def test_a_metaspace_says_whether_a_space_goes_first(
    tmp_path: Path, scheme: str, *, is_told: bool
) -> None:
    folder = hf_models.write(tmp_path / "folder", "llama-spm-json")
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    edit(
        folder / "tokenizer.json",
        lambda content: content.update(normalizer=None, pre_tokenizer=space),
    )
    convert(folder, tmp_path / "out.gguf", report=unheard)
    told = gguf.check(tmp_path / "out.gguf").metadata.get("tokenizer.ggml.add_space_prefix")
    assert told == (False if is_told else None)


def test_added_tokens_of_tokenizer_json_are_enough(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "gemma3")
    convert(folder, tmp_path / "before.gguf", report=unheard)
    edit(folder / "tokenizer_config.json", lambda config: config.pop("added_tokens_decoder"))
    convert(folder, tmp_path / "after.gguf", report=unheard)
    assert (tmp_path / "after.gguf").read_bytes() == (tmp_path / "before.gguf").read_bytes()


def test_longrope_may_say_its_ratio_and_nothing_else(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "phi3-longrope")
    edit(folder / "config.json", lambda config: config["rope_scaling"].update(factor=4.0))
    convert(folder, tmp_path / "out.gguf", report=unheard)
    (tmp_path / "out.gguf").unlink()
    edit(folder / "config.json", lambda config: config["rope_scaling"].update(factor=5.0))
    assert "longrope with a factor of 4" in refused(folder)


def test_a_template_of_its_own_file_and_the_default_of_several(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "qwen3")

    def template() -> str | None:
        return convert(folder, tmp_path / "out.gguf", report=unheard).chat_template

    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    edit(folder / "tokenizer_config.json", lambda config: config.update(chat_template=several))
    assert template() == "d"
    edit(folder / "tokenizer_config.json", lambda config: config.pop("chat_template"))
    assert template() is None
    (folder / "chat_template.json").write_text('{"chat_template": "old"}')
    assert template() == "old"
    (folder / "chat_template.jinja").write_text("new")
    assert template() == "new"
    assert text(tmp_path / "out.gguf", "tokenizer.chat_template") == "new"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\nlicense: 'gemma'\ntags:\n- x\n---\n", "gemma"),
        ("---\nlicense_name: own\nlicense: other\n---\n", "other"),
        ("license: mit\n", ""),
        ("---\nlicense: mit\n", ""),
        ("---\nlicense:\n- mit\n---\n", ""),
        ("", ""),
    ],
)
def test_the_licence_is_the_cards(tmp_path: Path, card: str, licence: str) -> None:
    model = hf_models.llama()
    other = HfModel(model.config, model.shapes, model.tokenizer, card=card)
    assert made(tmp_path, other).licence == licence


def test_a_name_that_llama_cpp_would_stumble_over_is_refused(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "my-phi-3-tuned", "phi4")
    assert "give the folder a name without phi3" in refused(folder)
    assert convert(
        hf_models.write(tmp_path / "phi-3-mini", "phi3"), tmp_path / "out.gguf", report=unheard
    ).architecture == "phi3"  # fmt: skip


def test_a_place_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "llama")
    with pytest.raises(ConvertError, match=r"cannot convert folder to out\.gguf"):
        convert(folder, tmp_path / "nowhere" / "out.gguf", report=unheard)


def test_what_was_there_before_stays_when_a_conversion_fails(tmp_path: Path) -> None:
    (tmp_path / "out.gguf").write_text("before")
    folder = hf_models.write(tmp_path / "folder", "llama")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ConvertError):
        convert(folder, tmp_path / "out.gguf", report=unheard)
    assert (tmp_path / "out.gguf").read_text() == "before"


def test_a_folder_of_links_is_read_as_hugging_faces_cache_is_laid_out(tmp_path: Path) -> None:
    real = hf_models.write(tmp_path / "real", "llama")
    links = tmp_path / "real-links"
    links.mkdir()
    for path in real.iterdir():
        (links / path.name).symlink_to(path)
    convert(links, tmp_path / "out.gguf", report=unheard)
    shutil.rmtree(real)
    assert not is_model_folder(links)


def test_without_the_extra_one_is_told_what_to_install(tmp_path: Path) -> None:
    folder = hf_models.write(tmp_path / "folder", "llama")
    code = (
        "import sys; from pathlib import Path\n"
        "from sprat_controller.publisher.convert import convert\n"
        "assert not {'numpy', 'gguf'} & sys.modules.keys()\n"
        "sys.modules['numpy'] = None\n"
        "folder, target = map(Path, sys.argv[1:])\n"
        "assert convert.is_model_folder(folder)\n"
        "try: convert.convert(folder, target, report=print)\n"
        "except convert.ConvertError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "out.gguf")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "run `pip install sprat-controller[publish]`" in done.stdout, done.stderr
