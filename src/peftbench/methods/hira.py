"""HiRA: the frozen weight times a low-rank matrix, elementwise, is the update (Huang et al., 2025, ICLR).

openreview TwJrTz9cRS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Hira(TargetedPeftMethod):
    """The weight W gains `W * (B A)`, of rank up to r times that of W; B starts at zero.

    `r` is the rank of B A. The learning rate is far above LoRA's, for entries of W are small.
    """

    config_class: ClassVar[str] = "HiraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 4.5e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 32
    hira_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if not 0 <= self.hira_dropout < 1:
            raise ValueError("hira_dropout must be at least 0 and below 1")

    def unfit(self, facts: Facts) -> str | None:
        """Also weights that the library cannot multiply by anything while they are packed."""
        if facts.quantization == "int8":
            return f"peft's {self.config_class} does not take weights in int8"
        return super().unfit(facts)

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A is [r, inputs], B is [outputs, r], as in LoRA."""
        return self.r * (inputs + outputs)


METHOD = Hira
