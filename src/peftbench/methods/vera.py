"""VeRA: two trained vectors scale random matrices that all layers share (Kopiczko et al., 2024, arXiv 2310.11454)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Vera(TargetedPeftMethod):
    """The layer's output gains `b * (B (d * (A x)))` (section 3.1): A and B are drawn once and frozen, d and b trained.

    `r` is the rank of A and B, `d_initial` what d starts at; b starts at zero, so that training starts at the base.
    A and B are drawn with `projection_prng_key` and saved with the adapter, so that it loads on any machine.
    """

    config_class: ClassVar[str] = "VeraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 4e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 256
    projection_prng_key: int = 0
    vera_dropout: float = 0.0
    d_initial: float = 0.1

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if not 0 <= self.vera_dropout < 1:
            raise ValueError("vera_dropout must be at least 0 and below 1")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """d is [r], b is [outputs]."""
        del inputs
        return self.r + outputs


METHOD = Vera
