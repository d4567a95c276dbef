"""Parallel adapters, beside the feed-forward of each block, scaled (He et al., 2022, arXiv 2110.04366)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._blocks import blocks
from peftbench.methods._bottleneck import BottleneckMethod, Hook
from peftbench.methods._method import Base
from peftbench.methods._peft import layers, modules_of

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Parallel(BottleneckMethod):
    """What feed-forward puts out gains what an adapter makes of the stream that feed-forward starts from.

    Read is what goes into the norm before feed-forward, not what comes out of it, as in the `adapters` library
    (`par_bn`); in a block that computes attention and feed-forward side by side (GPT-NeoX, Phi) that is what goes into
    the block. `up` starts at zero, as LoRA's does. The paper's bottleneck is half of the model's width, which is much:
    `width` and `reduction_factor` make it smaller.
    """

    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-4

    reduction_factor: float = 2.0
    scaling: float = 4.0

    def start(self, down: nn.Module, up: nn.Module) -> None:
        """Random weights in the first layer, nothing in the second."""
        import torch

        torch.nn.init.kaiming_uniform_(down.get_parameter("weight"), a=math.sqrt(5))
        for value in (down.get_parameter("bias"), *up.parameters()):
            value.zero_()

    def attach(self, base: Base) -> nn.Module:
        """The base, with an adapter beside each feed-forward."""
        for block in blocks(base):
            # The norm before feed-forward is the last one that is called before its last layer.
            stream: list[torch.Tensor] = []
            for norm in modules_of(block, layers(base.facts, ("norm",))):
                norm.register_forward_pre_hook(_noting(stream))
            for place in modules_of(block, layers(base.facts, ("down",))):
                place.register_forward_hook(self._beside(self.add_adapter(place, base), stream))
            # A norm behind feed-forward (Gemma 2 and 3) notes what nobody reads, and memory would be kept for it.
            block.register_forward_hook(lambda block, inputs, output, noted=stream: noted.clear())
        return base.model

    def _beside(self, adapter: nn.Module, stream: list[torch.Tensor]) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            del module, inputs
            return output + self.adapted(adapter, stream[0])

        return hook


def _noting(stream: list[torch.Tensor]) -> Any:
    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        del module
        stream[:] = inputs[:1]

    return hook


METHOD = Parallel
