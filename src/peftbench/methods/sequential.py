"""Sequential adapters, behind the feed-forward of each block (Pfeiffer et al., 2021, arXiv 2005.00247)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from peftbench.methods._blocks import blocks
from peftbench.methods._bottleneck import NearIdentityMethod
from peftbench.methods._method import Base

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Sequential(NearIdentityMethod):
    """What a block puts out gains what an adapter makes of it.

    The adapter reads the stream after the feed-forward was added to it: half as many adapters as `bottleneck`, which
    read what is going to be added. In a block that computes attention and feed-forward side by side (GPT-NeoX, Phi)
    both are added first. As `seq_bn` of the `adapters` library in models with norms before each part.
    """

    learning_rate: ClassVar[float] = 1e-4

    def attach(self, base: Base) -> nn.Module:
        """The base, with an adapter behind each block."""
        for block in blocks(base):
            block.register_forward_hook(self.serial(self.add_adapter(block, base)))
        return base.model


METHOD = Sequential
