"""LoKr: the Kronecker product of a small and a low-rank matrix (LyCORIS: Yeh et al., 2024, arXiv 2309.14859)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Lokr(TargetedPeftMethod):
    """The weight gains `alpha / r * C (x) (B A)`; C starts at zero.

    Either width of the layer is split in two factors: C has the smaller ones, B A the larger ones. The smaller is
    `decompose_factor` where that divides the width, and otherwise the largest divisor that is neither above it nor
    above the square root of the width (-1: the square root alone). B A is one whole matrix where `r` is at least half
    its longer side; C is of rank `r` too, under the same rule, with `decompose_both`.
    """

    config_class: ClassVar[str] = "LoKrConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 8
    alpha: int = 8
    decompose_both: bool = False
    decompose_factor: int = -1

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if self.decompose_factor < 1 and self.decompose_factor != -1:
            raise ValueError("decompose_factor must be at least 1, or -1 for the square root")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """C and B A, each whole or as two factors of rank r."""
        small, large = zip(self._factors(outputs), self._factors(inputs), strict=True)
        parts = [(small, self.decompose_both), (large, True)]
        return sum(
            self.r * sum(sides) if decomposed and self.r < max(sides) / 2 else math.prod(sides)
            for sides, decomposed in parts
        )

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Ranks up to the one from which all matrices are whole, which train less than some below it."""
        widest = max(max(shape) for shape in facts.shapes.linear.values())
        ranks = range(1, widest // 2 + 2)
        return sorted(ranks, key=lambda rank: replace(self, r=rank).trainable_parameters(facts) or 0)

    def with_size(self, size: int) -> Self:
        """Another rank, at the same `alpha / r` as far as whole numbers allow."""
        return replace(self, r=size, alpha=max(1, round(self.alpha * size / self.r)))

    def _factors(self, width: int) -> tuple[int, int]:
        """The smaller and the larger factor of a width."""
        if self.decompose_factor > 0 and width % self.decompose_factor == 0:
            return self.decompose_factor, width // self.decompose_factor
        limit = math.isqrt(width) if self.decompose_factor == -1 else min(self.decompose_factor, math.isqrt(width))
        small = next(divisor for divisor in range(limit, 0, -1) if width % divisor == 0)
        return small, width // small


METHOD = Lokr
