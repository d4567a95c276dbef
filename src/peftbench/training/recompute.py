"""Less memory for more time: what a layer puts out in between is computed again for its gradient, and not kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from peftbench.errors import UsageError


@contextlib.contextmanager
def recomputed(module: nn.Module) -> Iterator[int]:
    """Keep only the inputs of the layers of a model, while in training; how many layers there are is told.

    Chen et al., 2016 (arXiv 1604.06174). A cache in front of the tokens stays: what methods put there does not grow.

    Raises:
        UsageError: the `transformers` installed would leave such a cache away, without a word.
    """
    if not hasattr(GradientCheckpointingLayer, "_can_checkpoint_with_cache"):
        raise UsageError(
            "Training in lean mode needs a newer transformers, whose layers keep a cached prefix.",
            "Install it (pip install -U transformers), or use --mode fast.",
        )
    layers: list[Any] = [layer for layer in module.modules() if isinstance(layer, GradientCheckpointingLayer)]
    settings = {
        "gradient_checkpointing": True,
        "_gradient_checkpointing_func": partial(checkpoint, use_reentrant=False),
        "_can_checkpoint_with_cache": True,
    }
    before = [{name: vars(layer)[name] for name in settings if name in vars(layer)} for layer in layers]
    for layer in layers:
        vars(layer).update(settings)
    try:
        yield len(layers)
    finally:
        for layer, known in zip(layers, before, strict=True):
            for name in settings:
                vars(layer).pop(name)
            vars(layer).update(known)
