"""LoHa: the elementwise product of two low-rank updates (FedPara: Hyeon-Woo et al., 2022, arXiv 2108.06098)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Loha(TargetedPeftMethod):
    """The weight gains `alpha / r * (B1 A1) * (B2 A2)`, of rank up to r squared; A2 starts at zero.

    `r` is the rank of either product. The learning rate is well above LoRA's, for a product of products moves slowly.
    """

    config_class: ClassVar[str] = "LoHaConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 5e-3
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 8
    alpha: int = 8

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A1 and A2 are [r, inputs], B1 and B2 [outputs, r]: twice what LoRA trains at the same r."""
        return 2 * self.r * (inputs + outputs)

    def with_size(self, size: int) -> Self:
        """Another rank, at the same `alpha / r` as far as whole numbers allow."""
        return replace(self, r=size, alpha=max(1, round(self.alpha * size / self.r)))


METHOD = Loha
