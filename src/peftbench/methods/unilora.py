"""Uni-LoRA: all low-rank updates are read out of one trained vector (Li et al., 2025, arXiv 2506.00799)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class UniLora(TargetedPeftMethod):
    """Every entry of the matrices A and B of rank `r` is an entry of one vector, scaled by how often it is taken.

    The vector has `theta_d_length` entries (256 in the library, which is for a demonstration), lowered to the number of
    entries of all A and B: more would never be taken. Which entry goes where is drawn with `proj_seed`, and drawn
    again on loading. The vector starts within `init_theta_d_bound`, and so the model near the base, not at it.
    """

    config_class: ClassVar[str] = "UniLoraConfig"
    learning_rate: ClassVar[float] = 5e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "theta_d_length"

    r: int = 4
    theta_d_length: int = 23040
    proj_seed: int = 42
    unilora_dropout: float = 0.0
    init_theta_d_bound: float = 0.02

    def __post_init__(self) -> None:
        for name in ("r", "theta_d_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.init_theta_d_bound <= 0:
            raise ValueError("init_theta_d_bound must be above 0: from a vector of zeros nothing is learned")
        if not 0 <= self.unilora_dropout < 1:
            raise ValueError("unilora_dropout must be at least 0 and below 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters with a vector whose entries are all taken."""
        return {**super().peft_settings(facts), "theta_d_length": self.trainable_parameters(facts)}

    def trainable_parameters(self, facts: Facts) -> int:
        """The vector, whatever the layers are."""
        return min(self.theta_d_length, self._entries(facts) or self.theta_d_length)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Lengths up to the number of entries of all A and B."""
        return range(1, (self._entries(facts) or self.theta_d_length) + 1)

    def _entries(self, facts: Facts) -> int:
        """How many entries all A [r, inputs] and B [outputs, r] have; 0 where targets are not those of roles."""
        return facts.shapes.layers * self.r * sum(map(sum, self.targeted_shapes(facts) or ()))


METHOD = UniLora
