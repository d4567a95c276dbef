"""The optimiser and the learning rate over the steps."""

from __future__ import annotations

import math
from typing import Any

import torch

from peftbench.methods._attach import Adapter
from peftbench.spec import TrainSpec


def parameter_groups(adapter: Adapter, spec: TrainSpec) -> list[dict[str, Any]]:
    """The trained parameters by learning rate and decay; tensors of one dimension (biases, norms) are not decayed."""
    if spec.learning_rate is None:
        raise ValueError("the learning rate of a resolved spec is a number")
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in adapter.trainable.items():
        rate = spec.learning_rate * adapter.method.learning_rate_factor(name)
        decay = spec.weight_decay if parameter.ndim > 1 else 0.0
        empty = {"params": [], "names": [], "lr": rate, "weight_decay": decay}
        group = groups.setdefault((rate, decay), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def optimizer(adapter: Adapter, spec: TrainSpec) -> torch.optim.Optimizer:
    """AdamW with the betas and epsilon of `transformers`, or what the method has in its place."""
    groups = parameter_groups(adapter, spec)
    own = adapter.method.optimizer(adapter.module, groups)
    # One loop over all numbers in the place of a dozen over those of every tensor; `transformers` takes it too.
    return own or torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=True)


def learning_rate_factor(step: int, total: int, spec: TrainSpec) -> float:
    """The share of the learning rate used in a step (from 0): linear warm-up, then the schedule down to 0."""
    warmup = math.ceil(spec.warmup_ratio * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if spec.lr_scheduler_type == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - warmup)
    return 1.0 - progress if spec.lr_scheduler_type == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
