"""The network: Qwen3's architecture, small. Parameters have the names of Hugging Face's files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """How large it is; widths are multiples of 256, so that every quantization works."""

    vocabulary: int = 1024
    hidden: int = 256
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    head: int = 64
    ffn: int = 512
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-6


class Linear(nn.Linear):
    """A matrix, to which a LoRA may be added."""

    def __init__(self, width: int, height: int, deviation: float) -> None:
        super().__init__(width, height, bias=False)
        nn.init.normal_(self.weight, std=deviation)
        self.lora_a: nn.Parameter | None = None
        self.lora_b: nn.Parameter | None = None
        self.scale = 0.0

    def adapt(self, rank: int, alpha: float) -> None:
        """Add a LoRA that changes nothing yet."""
        self.lora_a = nn.Parameter(
            torch.randn(rank, self.in_features) / math.sqrt(self.in_features)
        )
        self.lora_b = nn.Parameter(torch.zeros(self.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        y = functional.linear(x, self.weight)
        if self.lora_a is None or self.lora_b is None:
            return y
        low = functional.linear(x, self.lora_a)
        return y + self.scale * functional.linear(low, self.lora_b)


class Attention(nn.Module):
    """Grouped-query attention with normed queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        deviation = shape.hidden**-0.5
        self.q_proj = Linear(shape.hidden, shape.heads * shape.head, deviation)
        self.k_proj = Linear(shape.hidden, shape.kv_heads * shape.head, deviation)
        self.v_proj = Linear(shape.hidden, shape.kv_heads * shape.head, deviation)
        last = deviation / math.sqrt(2 * shape.layers)
        self.o_proj = Linear(shape.heads * shape.head, shape.hidden, last)
        self.q_norm = nn.RMSNorm(shape.head, shape.epsilon)
        self.k_norm = nn.RMSNorm(shape.head, shape.epsilon)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Look back."""
        batch, length, _ = x.shape

        def heads(y: Tensor, count: int) -> Tensor:
            return y.view(batch, length, count, self.shape.head)

        q = self.q_norm(heads(self.q_proj(x), self.shape.heads)).transpose(1, 2)
        k = self.k_norm(heads(self.k_proj(x), self.shape.kv_heads)).transpose(1, 2)
        v = heads(self.v_proj(x), self.shape.kv_heads).transpose(1, 2)
        y = functional.scaled_dot_product_attention(
            _turned(q, turn), _turned(k, turn), v, is_causal=True, enable_gqa=True
        )
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class Ffn(nn.Module):
    """The gated step."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        deviation = shape.hidden**-0.5
        self.gate_proj = Linear(shape.hidden, shape.ffn, deviation)
        self.up_proj = Linear(shape.hidden, shape.ffn, deviation)
        last = shape.ffn**-0.5 / math.sqrt(2 * shape.layers)
        self.down_proj = Linear(shape.ffn, shape.hidden, last)

    def forward(self, x: Tensor) -> Tensor:
        """Think."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, shape.epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, shape.epsilon)
        self.mlp = Ffn(shape)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Attend, then think."""
        x = x + self.self_attn(self.input_layernorm(x), turn)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """All layers between tokens and logits."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, shape.epsilon)


class Network(nn.Module):
    """The whole; the embedding is also the output matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        steps = torch.arange(0, shape.head, 2) / shape.head
        angles = torch.outer(torch.arange(shape.context), shape.rope_base**-steps)
        self._turns = torch.cat((angles, angles), dim=1)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits of the next token at each place."""
        angles = self._turns[: ids.shape[1]]
        turn = (angles.cos(), angles.sin())
        x = self.model.embed_tokens(ids)
        for block in self.model.layers:
            x = block(x, turn)
        return functional.linear(self.model.norm(x), self.model.embed_tokens.weight)

    def adapt(self, rank: int, alpha: float) -> Iterable[nn.Parameter]:
        """Freeze all weights, add a LoRA to each matrix and return what is to be trained."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad=False)
        for module in self.modules():
            if isinstance(module, Linear):
                module.adapt(rank, alpha)
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = turn
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin
