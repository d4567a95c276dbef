"""MiSS: one small matrix is added to every shard of the weight (Kang and Yin, 2024, arXiv 2409.15371)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Miss(TargetedPeftMethod):
    """The layer's inputs are cut in shards of `r`, and the weights of all shards gain the same matrix, first zero.

    Where a targeted layer has fewer than `r` inputs, its inputs are one shard in all layers.
    The learning rate is below LoRA's: what is trained is added to the weights as it is.
    """

    config_class: ClassVar[str] = "MissConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-4
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 64
    miss_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if not 0 <= self.miss_dropout < 1:
            raise ValueError("miss_dropout must be at least 0 and below 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, with shards that fit."""
        return {**super().peft_settings(facts), "r": self._fitted(facts)}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """A matrix of [r, outputs] for each layer."""
        shapes = self.targeted_shapes(facts)
        if shapes is None:
            return None
        return facts.shapes.layers * self._fitted(facts) * sum(outputs for _, outputs in shapes)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Up to the inputs of the narrowest layer."""
        return range(1, min(inputs for inputs, _ in self.targeted_shapes(facts) or ()) + 1)

    def _fitted(self, facts: Facts) -> int:
        return min([self.r, *(inputs for inputs, _ in self.targeted_shapes(facts) or ())])


METHOD = Miss
