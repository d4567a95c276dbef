"""SHiRA: a random sparse part of every weight is trained (Bhardwaj et al., 2024, arXiv 2406.13175)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Facts, Family
from peftbench.methods._peft import TargetedPeftMethod, leave_sparse_unchecked

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Shira(TargetedPeftMethod):
    """As many entries of a weight as LoRA of rank `r` would train there are chosen at random, and their change trained.

    Entries are drawn with `random_seed`, the same ones for targets of the same shape, and saved with the adapter. `r`
    is lowered to what the smallest target has entries for.
    """

    config_class: ClassVar[str] = "ShiraConfig"
    family: ClassVar[Family | None] = "selective"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 5e-4
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 32
    random_seed: int = 0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters with a rank that fits."""
        return {**super().peft_settings(facts), "r": self._rank(facts)}

    def wrapped(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base."""
        leave_sparse_unchecked()
        return super().wrapped(base)

    def trainable_parameters(self, facts: Facts) -> int | None:
        """`r * (inputs + outputs)` entries of each weight."""
        shapes = self.targeted_shapes(facts)
        return None if shapes is None else facts.shapes.layers * self._rank(facts) * sum(map(sum, shapes))

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Ranks up to what the smallest target has entries for."""
        return range(1, _most(self.targeted_shapes(facts) or [(2, 2)]) + 1)

    def _rank(self, facts: Facts) -> int:
        shapes = self.targeted_shapes(facts)
        return min(self.r, _most(shapes)) if shapes else self.r


def _most(shapes: Sequence[tuple[int, int]]) -> int:
    """The largest rank that asks no target for more entries than it has."""
    return min(inputs * outputs // (inputs + outputs) for inputs, outputs in shapes)


METHOD = Shira
