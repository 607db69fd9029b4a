"""Run llama.cpp's own converter, in a Python that has torch: `reference.py LLAMA_CPP JOBS_JSON`.

Jobs are objects of folder, target, pre (what the converter is told instead of recognizing it: no
tiny tokenizer is known to it), texts and a prompt. Printed is a JSON list, for each job the token
ids that the tokenizer's own library makes of the texts, and what transformers' model says after the
prompt. It is a script for another environment: nothing of Sprat is imported. See `oracle.py`.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any, Final

_LOGITS: Final = 64  # of the first tokens


def _convert(base: Any, main: Any, folder: str, target: str, pre: str) -> None:
    def told(_model: object, _tokenizer: object) -> str:
        return pre

    base.TextModel.get_vocab_base_pre = told
    sys.argv = ["convert", folder, "--outfile", target, "--outtype", "f16", "--no-lazy"]
    main.main()


def _ids(folder: Path, texts: list[str]) -> list[list[int]]:
    path = folder / "tokenizer.json"
    if path.is_file():
        tokenizer = importlib.import_module("tokenizers").Tokenizer.from_file(str(path))
        return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    model = importlib.import_module("sentencepiece").SentencePieceProcessor()
    model.LoadFromFile(str(folder / "tokenizer.model"))
    return [model.EncodeAsIds(text) for text in texts]


def _logits(folder: str, prompt: list[int]) -> list[float]:
    torch = importlib.import_module("torch")
    auto = importlib.import_module("transformers").AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    return [round(float(logit), 5) for logit in logits[:_LOGITS]]


def _run(llama_cpp: str, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sys.path[:0] = [llama_cpp, f"{llama_cpp}/gguf-py"]
    base = importlib.import_module("conversion.base")
    main = importlib.import_module("convert_hf_to_gguf")
    results: list[dict[str, Any]] = []
    for job in jobs:
        error = ""
        try:
            _convert(base, main, job["folder"], job["target"], job["pre"])
        except Exception as caught:  # noqa: BLE001 - whatever it is, it is the result
            error = f"{type(caught).__name__}: {caught}"
        ids = _ids(Path(job["folder"]), job["texts"])
        logits = _logits(job["folder"], job["prompt"])
        results.append({"error": error, "ids": ids, "logits": logits})
    return results


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_run(sys.argv[1], json.loads(sys.argv[2]))))
