"""TinyLoRA: a few numbers a layer steer its strongest singular directions (Morris et al., 2026, arXiv 2602.04118).

Learning to Reason in 13 Parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class TinyLora(TargetedPeftMethod):
    """The update is `B R A`: A and B the `r` strongest singular directions of the weight, R a sum of `u` fixed random
    matrices, weighted by a trained vector that starts at zero.

    `weight_tying` lets layers share a vector: at 0 each has its own, at 1 all have the same. What is random is drawn
    with `projection_seed` and saved with the adapter, as A and B are.
    """

    config_class: ClassVar[str] = "TinyLoraConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "u"

    r: int = 2
    u: int = 64
    weight_tying: float = 0.0
    projection_seed: int = 42
    tinylora_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("r", "u"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0 <= self.weight_tying <= 1:
            raise ValueError("weight_tying must be between 0 and 1")
        if not 0 <= self.tinylora_dropout < 1:
            raise ValueError("tinylora_dropout must be at least 0 and below 1")

    def trainable_parameters(self, facts: Facts) -> int | None:
        """A vector of u for each group of layers that share one."""
        shapes = self.targeted_shapes(facts)
        if shapes is None:
            return None
        return self.u * max(1, round(facts.shapes.layers * len(shapes) * (1 - self.weight_tying)))


METHOD = TinyLora
