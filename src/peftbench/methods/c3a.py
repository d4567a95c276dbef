"""C3A: the update is made of circulant blocks, a circular convolution (Chen et al., 2024, arXiv 2407.19342)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from peftbench.methods._fit import largest_divisor
from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class C3a(TargetedPeftMethod):
    """Each block of the weight gains a circulant matrix, one trained row that is shifted from row to row.

    `block_size` is the side of a block: the larger, the less is trained. The largest number up to it is taken that
    divides all widths of the targeted layers. The start is random and small, and not at the base. Updates are divided
    by the layer's inputs, hence the large learning rate; a weight decay would have to be small.
    """

    config_class: ClassVar[str] = "C3AConfig"
    learning_rate: ClassVar[float] = 1e-1
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "block_size"

    block_size: int = 256
    init_weights: bool | Literal["gaussian", "kaiming_uniform", "xavier_uniform"] = "xavier_uniform"

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ValueError("block_size must be at least 1")

    def unfit(self, facts: Facts) -> str | None:
        """Also a model whose widths have no common block, where every weight would be trained."""
        said = super().unfit(facts)
        if said is None and self._fitted(facts) < min(2, self.block_size):
            return "no block divides all widths of the targeted layers"
        return said

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, with blocks that fit."""
        return {**super().peft_settings(facts), "block_size": self._fitted(facts)}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """`inputs * outputs / block_size`: a row for each block."""
        shapes = self.targeted_shapes(facts)
        if shapes is None:
            return None
        return facts.shapes.layers * sum(math.prod(shape) for shape in shapes) // self._fitted(facts)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Common divisors of all widths, the largest first."""
        common = math.gcd(*self._widths(facts))
        return [size for size in range(common, 0, -1) if common % size == 0]

    def _fitted(self, facts: Facts) -> int:
        return largest_divisor(self._widths(facts), self.block_size)

    def _widths(self, facts: Facts) -> list[int]:
        return [width for shape in self.targeted_shapes(facts) or () for width in shape]


METHOD = C3a
