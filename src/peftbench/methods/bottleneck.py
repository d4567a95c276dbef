"""Bottleneck adapters, behind attention and feed-forward of each block (Houlsby et al., 2019, arXiv 1902.00751)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from peftbench.methods._bottleneck import NearIdentityMethod
from peftbench.methods._method import Base
from peftbench.methods._peft import layers, modules_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Bottleneck(NearIdentityMethod):
    """What attention and feed-forward put out gains what an adapter makes of it, before it is added to the stream.

    An adapter sits behind the last linear layer of either part, so that the place is the same in every architecture:
    in those that compute both parts side by side (GPT-NeoX, Phi), and before a norm that follows (Gemma 2 and 3).
    The norms, which the paper trains as well, stay as they are, as in the `adapters` library (`double_seq_bn`): so
    that only adapters are measured. From there are `silu` and the factor of 16; the paper tunes the width, 8 to 256.
    """

    learning_rate: ClassVar[float] = 3e-4
    adapters_a_block: ClassVar[int] = 2

    non_linearity: Literal["relu", "gelu", "silu", "tanh"] = "silu"

    def attach(self, base: Base) -> nn.Module:
        """The base, with an adapter behind each output and each down projection."""
        for place in modules_of(base.model, layers(base.facts, ("output", "down"))):
            place.register_forward_hook(self.serial(self.add_adapter(place, base)))
        return base.model


METHOD = Bottleneck
