"""GraLoRA: the weight is cut in k by k blocks, each with its low-rank update (Jung et al., 2025, arXiv 2505.20355)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from peftbench.methods._fit import largest_divisor
from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Gralora(TargetedPeftMethod):
    """Each block gains `alpha / (r + hybrid_r) * B A` of rank `r / gralora_k`; B starts at zero.

    `r` says how much is trained, as in LoRA. Where `gralora_k` does not divide all widths of the targeted layers, the
    largest smaller number is taken that divides them and `r`. `hybrid_r` is the rank of a LoRA update beside it.
    """

    config_class: ClassVar[str] = "GraloraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 2e-4
    merges: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 32
    hybrid_r: int = 0
    alpha: int = 64
    gralora_k: int = 2
    gralora_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.gralora_k < 1:
            raise ValueError("gralora_k must be at least 1")
        if self.r < 1 or self.r % self.gralora_k:
            raise ValueError("r must be a multiple of gralora_k")
        if self.hybrid_r < 0:
            raise ValueError("hybrid_r must be at least 0")
        if not 0 <= self.gralora_dropout < 1:
            raise ValueError("gralora_dropout must be at least 0 and below 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, with blocks that fit."""
        widths = [width for shape in self.targeted_shapes(facts) or () for width in shape]
        return {**super().peft_settings(facts), "gralora_k": largest_divisor([self.r, *widths], self.gralora_k)}

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """In each row of blocks A is [r, inputs / k], in each column B is [outputs / k, r]; k of each."""
        return (self.r + self.hybrid_r) * (inputs + outputs)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Multiples of the number of blocks."""
        return range(self.gralora_k, facts.hidden_size + 1, self.gralora_k)

    def with_size(self, size: int) -> Self:
        """Another rank, at the same `alpha / r` as far as whole numbers allow."""
        return replace(self, r=size, alpha=max(1, round(self.alpha * size / self.r)))


METHOD = Gralora
