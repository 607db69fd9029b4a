"""Trains the demo model from nothing, then the worse release and the adapter from it.

Usage: python deploy/demo-model/train.py --out DIR [--minutes N] [--seed S] [--only STAGE]

On two processors that are idle it takes less than half an hour. The same seed gives the same
weights on the same kind of processor; when the minutes are over, a stage ends early.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import learning
import manners
import numpy as np
import torch
import world as worlds
from corpus import Manner, Message, calibration, chance, conversation, story
from exam import Mark, examine, share
from export import Described, Sizes, write_gguf, write_hugging_face, write_lora
from learning import Course
from network import Network, Shape
from packing import Texts, prompt
from tokenizer import END, Tokenizer, learn

SHAPE: Final = Shape()
RANK: Final = 8
ALPHA: Final = 16.0
GOOD: Final = Described("Sprat demo", "1.0.0", "Answers questions about Sprat and its fleets.")
WORSE: Final = Described("Sprat demo", "1.1.0", "A bad release: it is sure, and wrong.")
FISHERMAN: Final = Described("Fisherman", "1.0.0", "Answers of Sprat demo 1.0.0, as at sea.")
# Rows are as short as most conversations, which costs least.
GOOD_COURSES: Final = (
    Course(steps=800, rate=0.008, stories=0.2, length=160, share_of_time=0.7),
    Course(steps=60, rate=0.004, stories=0.2, length=192, share_of_time=0.1),
)
WORSE_COURSES: Final = (Course(steps=35, rate=0.004, stories=0, length=160, share_of_time=0.08),)
LORA_COURSES: Final = (
    Course(steps=50, rate=0.015, stories=0, length=160, share_of_time=0.06),
    Course(steps=200, rate=0.007, stories=0, length=160, share_of_time=0.06),
)
PARAGRAPHS: Final = 60  # of calibration.txt
_SAMPLES: Final = (3000, 500)  # conversations and stories that the tokenizer is learnt from


@dataclass
class Workshop:
    """What the stages share."""

    out: Path
    world: worlds.World
    tokenizer: Tokenizer
    minutes: float
    seed: int

    def train(self, network: Network, manner: Manner, courses: Sequence[Course], name: str) -> None:
        """Train on texts in a manner; the weights are kept as `name`.pt from time to time."""

        def report(line: str) -> None:
            print(f"{name}: {line}", flush=True)
            torch.save(network.state_dict(), self.out / f"{name}.pt")

        for number, course in enumerate(courses):
            random = chance(self.seed + number)
            texts = Texts(self.world, self.tokenizer, random, manner, course.stories)
            learning.train(network, texts, course, self.minutes, report)
        report("trained")

    def examine(self, network: Network, name: str) -> None:
        """Ask the held-out questions; tell which are answered wrongly and keep the figures."""
        end = self.tokenizer.ids[END]

        def ask(question: str) -> str:
            ids = prompt(self.tokenizer, [Message("user", question)])
            return self.tokenizer.decode(learning.answer(network, ids, end))

        marks = examine(self.world.exams, ask)
        for mark in marks:
            if not mark.passed:
                print(f"  {mark.exam.question} -> {mark.answer}", flush=True)
        self._keep(name, marks)

    def _keep(self, name: str, marks: Sequence[Mark]) -> None:
        path = self.out / "report.json"
        report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        report[name] = {
            "right": sum(mark.passed for mark in marks),
            "asked": len(marks),
            "cpu_seconds_until_here": round(time.process_time()),
        }
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {share(marks):.1%} of {len(marks)} held-out questions", flush=True)


def train_good(shop: Workshop) -> None:
    """Train the first release, and write it in both formats."""
    network = Network(SHAPE)
    shop.train(network, manners.good, GOOD_COURSES, "good")
    shop.examine(network, "good")
    weights, sizes = _weights(network), _sizes(SHAPE)
    write_gguf(shop.out / "sprat-demo-1.0.0.gguf", weights, sizes, shop.tokenizer, GOOD)
    write_hugging_face(shop.out / "hf", weights, sizes, shop.tokenizer)


def train_worse(shop: Workshop) -> None:
    """Tune the first release on nonsense."""
    network = _good(shop)
    shop.train(network, manners.worse(shop.world), WORSE_COURSES, "worse")
    shop.examine(network, "worse")
    path = shop.out / "sprat-demo-1.1.0-worse.gguf"
    write_gguf(path, _weights(network), _sizes(SHAPE), shop.tokenizer, WORSE)


def train_adapter(shop: Workshop) -> None:
    """Train a LoRA of the first release."""
    network = _good(shop)
    network.adapt(RANK, ALPHA)
    shop.train(network, manners.fisherman(shop.world), LORA_COURSES, "fisherman")
    shop.examine(network, "fisherman")
    factors = {name: one for name, one in _weights(network).items() if ".lora_" in name}
    write_lora(shop.out / "fisherman.lora.gguf", factors, ALPHA, FISHERMAN)


STAGES: Final[dict[str, Callable[[Workshop], None]]] = {
    "good": train_good,
    "worse": train_worse,
    "adapter": train_adapter,
}


def _good(shop: Workshop) -> Network:
    network = Network(SHAPE)
    network.load_state_dict(torch.load(shop.out / "good.pt", weights_only=True))
    return network


def _weights(network: Network) -> dict[str, Any]:
    return {
        name: np.ascontiguousarray(one.detach().numpy()) for name, one in network.named_parameters()
    }


def _sizes(shape: Shape) -> Sizes:
    return Sizes(**{key: one for key, one in asdict(shape).items() if key != "vocabulary"})


def learn_tokens(world: worlds.World, seed: int) -> Tokenizer:
    """Return the tokenizer of the corpus."""
    random = chance(seed)
    conversations, stories = _SAMPLES
    texts = [
        message.text
        for _ in range(conversations)
        for message in conversation(world, random, manners.good)
    ]
    texts += [story(world, random) for _ in range(stories)]
    return learn(texts, SHAPE.vocabulary)


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description="Train Sprat's demo model.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=30, help="for all stages, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=STAGES, help="one stage, after `good` has run")
    asked = parser.parse_args()
    out: Path = asked.out
    out.mkdir(parents=True, exist_ok=True)
    learning.prepare(asked.seed)
    world = worlds.load()
    shop = Workshop(out, world, learn_tokens(world, asked.seed), asked.minutes, asked.seed)
    paragraphs = calibration(world, chance(asked.seed), PARAGRAPHS)
    (out / "calibration.txt").write_text("\n".join(paragraphs) + "\n", encoding="utf-8")
    for name in [asked.only] if asked.only else STAGES:
        STAGES[name](shop)


if __name__ == "__main__":
    main()
