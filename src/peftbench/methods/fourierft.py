"""FourierFT: a few coefficients of the update's Fourier transform are trained (Gao et al., 2024, arXiv 2405.03003)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Fourierft(TargetedPeftMethod):
    """The weight gains `scaling` times the inverse transform of a matrix with `n_frequency` entries that are not zero.

    Where they lie is drawn with `random_loc_seed`, alike for all layers of a shape. A layer has no more coefficients
    than the smallest targeted layer has weights.
    """

    config_class: ClassVar[str] = "FourierFTConfig"
    learning_rate: ClassVar[float] = 3e-2
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "n_frequency"

    n_frequency: int = 1000
    scaling: float = 150.0
    random_loc_seed: int = 777
    init_weights: bool = False

    def __post_init__(self) -> None:
        if self.n_frequency < 1:
            raise ValueError("n_frequency must be at least 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, with as many coefficients as fit."""
        return {**super().peft_settings(facts), "n_frequency": self._fitted(facts)}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """The coefficients of each layer."""
        shapes = self.targeted_shapes(facts)
        return None if shapes is None else facts.shapes.layers * len(shapes) * self._fitted(facts)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Up to the weights of the smallest layer."""
        return range(1, min(math.prod(shape) for shape in self.targeted_shapes(facts) or ()) + 1)

    def _fitted(self, facts: Facts) -> int:
        return min([self.n_frequency, *(math.prod(shape) for shape in self.targeted_shapes(facts) or ())])


METHOD = Fourierft
