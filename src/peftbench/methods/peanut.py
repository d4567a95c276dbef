"""PEANuT: a small network computes a layer's update from its own weight (Zhong et al., 2024, arXiv 2410.01870)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Peanut(TargetedPeftMethod):
    """The update of a weight W is `scaling * f(W A) B`; B starts at zero, so that training starts at the base.

    W is read with a row for each input, f is the activation `act_fn`, and `depth` pairs of `r` by `r` layers with the
    same activation and residual connections may stand between A and B.
    """

    config_class: ClassVar[str] = "PeanutConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 3e-4
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 32
    depth: int = 0
    act_fn: Literal["relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "mish", "linear"] = "relu"
    scaling: float = 1.0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if self.depth < 0:
            raise ValueError("depth must be at least 0")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A is [outputs, r], B is [r, outputs], and each of `depth` encoders and decoders [r, r]."""
        del inputs
        return 2 * self.r * outputs + 2 * self.depth * self.r**2


METHOD = Peanut
