"""BEFT: a bias is added to the values of attention and trained (Huang et al., 2025, arXiv 2509.15974)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from peftbench.methods._method import Base, Family
from peftbench.methods._peft import TargetedPeftMethod

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Beft(TargetedPeftMethod):
    """Each target's output gains a trained vector that starts at zero; the target's own bias, if any, stays.

    The place of the paper is the value projection. Where one layer computes query, key and value together, all
    three gain it. It is not merged: most models have no bias there that it could be folded into.
    """

    config_class: ClassVar[str] = "BeftConfig"
    family: ClassVar[Family | None] = "selective"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    quantised_base: ClassVar[bool] = True

    targets: tuple[str, ...] = ("value",)

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """One number for each output."""
        del inputs
        return outputs

    def wrapped(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base."""
        with warnings.catch_warnings():
            # The library says of every layer without a bias that it cannot be merged.
            warnings.filterwarnings("ignore", "Detected that the base layer has no bias term", UserWarning)
            return super().wrapped(base)


METHOD = Beft
