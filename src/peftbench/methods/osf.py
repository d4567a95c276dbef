"""OSF: the weaker singular directions of a weight are trained, others kept (Nayak et al., 2025, arXiv 2504.07097)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod, layers


@dataclass(frozen=True)
class Osf(TargetedPeftMethod):
    """A weight is split by its singular values; the weaker part `U S V` is trained at full size.

    Gradients are projected so that U and V leave the stronger directions alone. `effective_rank` of them are kept in
    every target, half of its narrower side when absent. `trainable_rank` says instead how many directions of each
    target are trained, and takes fewer where a target has no more than that.
    """

    config_class: ClassVar[str] = "OSFConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 5e-5
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "trainable_rank"

    effective_rank: int | None = None
    trainable_rank: int | None = None

    def __post_init__(self) -> None:
        if self.effective_rank is not None and self.trainable_rank is not None:
            raise ValueError("effective_rank and trainable_rank say the same: give one of them")
        if self.effective_rank is not None and self.effective_rank < 1:
            raise ValueError("effective_rank must be at least 1")
        if self.trainable_rank is not None and self.trainable_rank < 1:
            raise ValueError("trainable_rank must be at least 1")

    def unfit(self, facts: Facts) -> str | None:
        """A target that would be kept whole, beside what is refused of any method."""
        said = super().unfit(facts)
        narrowest = min((min(shape) for shape in self.targeted_shapes(facts) or ()), default=None)
        if said is None and self.effective_rank and narrowest and self.effective_rank >= narrowest:
            return f"effective_rank {self.effective_rank} leaves nothing to train in a target {narrowest} wide"
        if said is None and self.trainable_rank and self.targeted_shapes(facts) is None:
            return "trainable_rank needs targets that roles name: give effective_rank instead"
        return said

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters; how much is kept differs between targets where `trainable_rank` says what is trained."""
        settings = super().peft_settings(facts)
        if settings.pop("trainable_rank") is None:
            return settings
        names = self.target_modules or layers(facts, self.targets)
        kept = {
            rf"\b{re.escape(name)}$": min(shape) - self._trained(shape)
            for name, shape in zip(names, self.targeted_shapes(facts) or (), strict=True)
        }
        return {**settings, "rank_pattern": kept}

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """U is [outputs, k], S [k], V [k, inputs] for k trained directions."""
        return self._trained((inputs, outputs)) * (inputs + outputs + 1)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Ranks up to all but one direction of the widest target."""
        return range(1, max((min(shape) for shape in self.targeted_shapes(facts) or ()), default=2))

    def with_size(self, size: int) -> Self:
        """The same method with another `trainable_rank`."""
        return replace(self, effective_rank=None, trainable_rank=size)

    def _trained(self, shape: tuple[int, int]) -> int:
        """How many directions of a target are trained; at least one is kept, for the library asks for one."""
        narrow = min(shape)
        if self.trainable_rank is not None:
            return min(self.trainable_rank, narrow - 1)
        return narrow - min(self.effective_rank or narrow // 2, narrow)


METHOD = Osf
