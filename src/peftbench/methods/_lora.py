"""What all members with a low-rank update through peft's `LoraConfig` share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from peftbench.methods._peft import TargetedPeftMethod

# Why it cannot be told what a layer would put out without the update.
TAKEN_FROM_BASE = "it takes what it starts from away from the base's weights"


@dataclass(frozen=True)
class LowRank(TargetedPeftMethod):
    """The layer's output gains `lora_alpha / r * B A x`, with A of [r, inputs] and B of [outputs, r].

    `r` is the rank of the update, `lora_dropout` the share of the layer's input dropped before A while training.
    """

    config_class: ClassVar[str] = "LoraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 3e-4
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError("lora_dropout must be at least 0 and below 1")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A and B."""
        return self.r * (inputs + outputs)

    def with_size(self, size: int) -> Self:
        """Another rank, at the same `lora_alpha / r` as far as whole numbers allow."""
        return replace(self, r=size, lora_alpha=max(1, round(self.lora_alpha * size / self.r)))
