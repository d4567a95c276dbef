"""A toy problem that any method can make progress on in thirty steps, and the calls that are compared.

Sequences of ids, no text: the first id of a prompt decides the answer, and all answers share their ending.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peftbench.methods._attach import Adapter
from peftbench.models._batch import Batch, pad
from peftbench.models._chat import Encoded
from peftbench.models._load import LoadedModel

SEED = 1
_SIGNS = (5, 6)
_ANSWERS = {5: (7, 9), 6: (8, 9)}
_WORDS = range(10, 40)
# Of different lengths, and together longer than the window of the tiny models that have one.
_LENGTHS = (3, 5, 8, 13, 30)


@dataclass(frozen=True)
class Toy:
    """Examples to learn, examples that contradict them, and prompts to answer."""

    train: tuple[Encoded, ...]
    contradicting: tuple[Encoded, ...]
    prompts: tuple[tuple[int, ...], ...]


def toy(end_id: int) -> Toy:
    """The toy problem for a model with this end token; always the same."""
    generator = random.Random(SEED)  # noqa: S311 - a fixed sequence is wanted
    train = tuple(_example(generator, generator.randint(3, 8), end_id) for _ in range(48))
    contradicting = tuple(Encoded(example.prompt, (41, 42, 43)) for example in train[:8])
    return Toy(train, contradicting, tuple(_prompt(generator, length) for length in _LENGTHS))


def logits(module: nn.Module, batch: Batch, **options: Any) -> torch.Tensor:
    """What an evaluated module answers to the tokens of a batch, as [rows, tokens, vocabulary]."""
    return all_logits(module, batch, **options)[:, -batch.input_ids.shape[1] :]


def all_logits(module: nn.Module, batch: Batch, **options: Any) -> torch.Tensor:
    """What an evaluated module answers to a batch, whether or not there is one answer for each token."""
    module.eval()
    with torch.no_grad():
        answered: torch.Tensor = module(**batch.inputs(), use_cache=False, **options).logits
    return answered.float().clone()


def single(prompt: Sequence[int], device: torch.device) -> Batch:
    """One prompt, unpadded."""
    return pad([prompt], device)


def padded(prompt: Sequence[int], device: torch.device, left: int, right: int, filler: int) -> Batch:
    """One prompt with padding around it."""
    mask = torch.tensor([[0] * left + [1] * len(prompt) + [0] * right])
    ids = torch.tensor([[filler] * left + list(prompt) + [filler] * right])
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return Batch(ids.to(device), mask.to(device), positions.to(device))


def reference_logits(module: nn.Module, base: LoadedModel) -> torch.Tensor:
    """The answers by which a module is compared with itself, or with another: some prompts as one batch."""
    batch = pad(toy(base.chat.end_id).prompts, base.device)
    return logits(module, batch) * batch.attention_mask[:, :, None]


def perturb(adapter: Adapter, size: float = 0.05) -> None:
    """Move an adapter away from its start, where many methods do nothing and hide their faults."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for value in adapter.trainable.values():
            noise = torch.randn(value.shape, generator=generator) * size
            value.add_(noise.to(value.device, value.dtype))


def furthest(first: torch.Tensor, second: torch.Tensor) -> float:
    """The largest difference; infinite when one side is not a number."""
    if first.shape != second.shape:
        return float("inf")
    return float((first - second).abs().nan_to_num(nan=float("inf")).max()) if first.numel() else 0.0


def _example(generator: random.Random, length: int, end_id: int) -> Encoded:
    prompt = _prompt(generator, length)
    return Encoded(prompt, (*_ANSWERS[prompt[0]], end_id))


def _prompt(generator: random.Random, length: int) -> tuple[int, ...]:
    return (generator.choice(_SIGNS), *(generator.choice(_WORDS) for _ in range(length - 1)))
