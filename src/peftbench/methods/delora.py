"""DeLoRA: a low-rank update whose direction and strength are trained apart (Bini et al., 2025, arXiv 2503.18225)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Delora(TargetedPeftMethod):
    """The weight gains `lambda / r * sum of b a'` over r pairs of unit length, times the norms of its own columns.

    `delora_lambda` is the strength to start from; it is trained with the directions. B starts at zero, where the
    library does not normalise it: the first step moves the model by the whole strength, whatever the learning rate.
    """

    config_class: ClassVar[str] = "DeloraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 8
    delora_lambda: int = 15
    module_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if self.delora_lambda < 1:
            raise ValueError("delora_lambda must be at least 1")
        if not 0 <= self.module_dropout < 1:
            raise ValueError("module_dropout must be at least 0 and below 1")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A is [r, inputs], B is [outputs, r], and there is one strength."""
        return self.r * (inputs + outputs) + 1


METHOD = Delora
