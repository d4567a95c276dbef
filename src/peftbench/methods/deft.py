"""DEFT: a subspace is taken out of the weight and another put in (Decompositional: Kumar et al., 2025, NeurIPS).

Not the DEFT that lowers the density of activations, which is a loss added to other methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Deft(TargetedPeftMethod):
    """The weight W becomes `(I - P D') W + P R`, where D is relu(P), or P made orthonormal and D the same ("qr").

    `r` is the number of directions in P, at most the layer's outputs. R starts at D' W, so that training starts at
    the base.
    """

    config_class: ClassVar[str] = "DeftConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 5e-4
    merges: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 8
    decomposition_method: Literal["relu", "qr"] = "relu"
    deft_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if not 0 <= self.deft_dropout < 1:
            raise ValueError("deft_dropout must be at least 0 and below 1")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """P is [outputs, r], R is [r, inputs]."""
        return min(self.r, outputs) * (inputs + outputs)


METHOD = Deft
