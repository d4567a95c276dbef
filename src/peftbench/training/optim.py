"""The optimiser and the learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from peftbench.spec import TrainSpec


def adamw(parameters: Iterable[nn.Parameter], spec: TrainSpec) -> torch.optim.AdamW:
    """AdamW with the betas and epsilon of `transformers`; tensors of one dimension (biases, norms) are not decayed."""
    if spec.learning_rate is None:
        raise ValueError("the learning rate of a resolved spec is a number")
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in parameters:
        (matrices if parameter.ndim > 1 else vectors).append(parameter)
    groups = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=spec.learning_rate, betas=(0.9, 0.999), eps=1e-8
    )


def learning_rate_factor(step: int, total: int, spec: TrainSpec) -> float:
    """The share of the learning rate used in a step (from 0): linear warm-up, then the schedule down to 0."""
    warmup = math.ceil(spec.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if spec.lr_scheduler_type == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    return 1.0 - progress if spec.lr_scheduler_type == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
