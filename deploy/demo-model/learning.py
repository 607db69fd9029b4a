"""Training and asking, with torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from muon import Muon
from network import Network
from packing import Sample, Texts
from torch import Tensor, nn
from torch.nn import functional

THREADS: Final = 2
_BATCH: Final = 4096  # tokens
_WARM_UP: Final = 20  # steps
_FALL: Final = 0.6  # the last part of a course, in which the rate falls
_DECAY: Final = 0.05  # of matrices
_REPORT_EVERY: Final = 10  # steps


@dataclass(frozen=True)
class Course:
    """How long and how boldly to train, and on what."""

    steps: int
    rate: float  # of matrices, which Muon trains; all else by AdamW at a fraction
    stories: float  # the share of texts that are no conversation
    length: int  # of a row, in tokens
    share_of_time: float  # it ends early when that share of all minutes is over


def prepare(seed: int) -> None:
    """Make torch repeat itself, on two processors."""
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(mode=True)


def train(
    network: Network, texts: Texts, course: Course, minutes: float, report: Callable[[str], None]
) -> None:
    """Train what is not frozen, for a share of the minutes at most."""
    optimizers = _optimizers(network, course)
    batches = texts.batches(tokens=_BATCH, length=course.length)
    began = time.monotonic()
    losses: list[float] = []
    for step in range(course.steps):
        spent = (time.monotonic() - began) / 60
        progress = max(step / course.steps, spent / (minutes * course.share_of_time))
        if progress >= 1:
            report(f"step {step}: its {spent:.1f} minutes are over")
            break
        rate = min(1, (step + 1) / _WARM_UP) * min(1, (1 - progress) / _FALL)
        losses.append(_step(network, next(batches), optimizers, rate))
        if (step + 1) % _REPORT_EVERY == 0:
            loss = sum(losses[-_REPORT_EVERY:]) / _REPORT_EVERY
            report(f"step {step + 1}: loss {loss:.3f}, {spent:.1f} minutes")


def _optimizers(network: Network, course: Course) -> Sequence[torch.optim.Optimizer]:
    trained = [(name, one) for name, one in network.named_parameters() if one.requires_grad]
    matrices = [one for name, one in trained if _is_for_muon(name)]
    others = [one for name, one in trained if not _is_for_muon(name)]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=course.rate * 0.4, betas=(0.9, 0.95), weight_decay=0.0)
    ]
    if matrices:
        made.append(Muon(matrices, course.rate, _DECAY))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["full"] = group["lr"]
    return made


def _is_for_muon(name: str) -> bool:
    """Tell by its name whether a parameter is a matrix within the network."""
    return name.endswith("_proj.weight")


def _step(
    network: Network,
    batch: list[Sample],
    optimizers: Iterable[torch.optim.Optimizer],
    rate: float,
) -> float:
    ids = torch.tensor([sample.ids for sample in batch])
    weights = torch.tensor([sample.weights for sample in batch])[:, 1:].flatten()
    logits = network(ids[:, :-1]).flatten(0, 1)
    each = functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
    loss = (each * weights).sum() / weights.sum()
    loss.backward()
    nn.utils.clip_grad_norm_([one for one in network.parameters() if one.requires_grad], 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


@torch.no_grad()
def answer(network: Network, prompt: Sequence[int], end: int, most: int = 60) -> list[int]:
    """Return the likeliest tokens up to `end`."""
    ids: Tensor = torch.tensor([list(prompt)])
    made: list[int] = []
    while len(made) < most:
        token = int(network(ids)[0, -1].argmax())
        if token == end:
            break
        made.append(token)
        ids = torch.cat((ids, torch.tensor([[token]])), dim=1)
    return made
