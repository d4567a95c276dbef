"""RandLoRA: a full-rank update from scaled random matrices (Albert et al., 2025, arXiv 2502.00987)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class RandLora(TargetedPeftMethod):
    """The update is a sum of `B_i l_i A g_i` over as many random bases of rank `r` as fill the layer's narrower side.

    A and B_i are drawn once, frozen, and shared by all layers; the diagonals l_i and g_i are trained, and l_i starts
    at zero. A larger `r` needs fewer bases and trains less. The sum is scaled by `randlora_alpha / r`. The bases are
    drawn with `projection_prng_key` and saved with the adapter; `sparse` and `very_sparse` draw them from -1, 0 and 1.
    """

    config_class: ClassVar[str] = "RandLoraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-4
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 32
    randlora_alpha: int = 640
    randlora_dropout: float = 0.0
    projection_prng_key: int = 0
    sparse: bool = False
    very_sparse: bool = False

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if not 0 <= self.randlora_dropout < 1:
            raise ValueError("randlora_dropout must be at least 0 and below 1")
        if self.sparse and self.very_sparse:
            raise ValueError("sparse and very_sparse are two ways to draw the bases: choose one")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """For each of n = ceil(d / r) bases, d the narrower side: l_i is [r], g_i is [d]."""
        narrow = min(inputs, outputs)
        return -(-narrow // self.r) * (self.r + narrow)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Ranks that train more than every larger one, from the narrower side of the widest target down."""
        ranks: list[int] = []
        most = 0
        for r in range(max((min(shape) for shape in self.targeted_shapes(facts) or ()), default=1), 0, -1):
            trained = self.with_size(r).trainable_parameters(facts) or 0
            if trained > most:
                ranks.append(r)
                most = trained
        return ranks

    def with_size(self, size: int) -> Self:
        """Another rank, at the same `randlora_alpha / r` as far as whole numbers allow."""
        return replace(self, r=size, randlora_alpha=max(1, round(self.randlora_alpha * size / self.r)))


METHOD = RandLora
