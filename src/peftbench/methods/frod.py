"""FRoD: the weight is rebuilt, with trained coefficients, in a shared basis (Wan et al., 2025, arXiv 2512.23485).

Full-Rank Efficient Fine-Tuning with Rotational Degrees, AAAI 2026, doi 10.1609/aaai.v40i31.39813.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import TargetedPeftMethod, leave_sparse_unchecked

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Frod(TargetedPeftMethod):
    """The weight is written as `U (L + S) V'`: V is shared by all layers of a role, U and V are frozen.

    L is a trained diagonal, started at what gives the weight back; S has a share of `sparse_rate` of entries off the
    diagonal, drawn with `projection_prng_key`, and starts at zero. The layer then computes with these factors in the
    place of its weight: in a base of 16 bits they are rounded, and training starts a little beside the base.
    """

    config_class: ClassVar[str] = "FrodConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    transposes: ClassVar[bool] = True

    sparse_rate: float = 0.01
    projection_prng_key: int = 0
    regularization_alpha: float = 1e-3
    frod_dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.sparse_rate <= 1:
            raise ValueError("sparse_rate must be above 0 and at most 1")
        if self.regularization_alpha <= 0:
            raise ValueError("regularization_alpha must be above 0")
        if not 0 <= self.frod_dropout < 1:
            raise ValueError("frod_dropout must be at least 0 and below 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, without a progress bar."""
        return {**super().peft_settings(facts), "progressbar": False}

    def wrapped(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base."""
        leave_sparse_unchecked()
        return super().wrapped(base)

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """L is [inputs]; S is [inputs, inputs], of which a share is trained, but none of the diagonal."""
        del outputs
        return inputs + max(1, min(int(inputs * inputs * self.sparse_rate), inputs * (inputs - 1)))


METHOD = Frod
