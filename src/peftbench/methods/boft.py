"""BOFT: the layer's input is turned by blocks of trained rotations (Liu et al., 2024, arXiv 2311.06243)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._fit import largest_divisor
from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import TargetedPeftMethod

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Boft(TargetedPeftMethod):
    """The weight is multiplied by rotations of `boft_block_size` inputs each, and its rows by trained scales.

    The largest block up to the one given is taken that divides the inputs of all targeted layers. There is one
    butterfly factor, at which blocks do not mix: the library computes more of them only where it can compile a CUDA
    extension and silently takes one elsewhere, so that what is trained would depend on the machine.
    """

    config_class: ClassVar[str] = "BOFTConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "boft_block_size"

    boft_block_size: int = 4
    boft_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.boft_block_size < 2:
            raise ValueError("boft_block_size must be at least 2, for one input cannot be turned")
        if not 0 <= self.boft_dropout < 1:
            raise ValueError("boft_dropout must be at least 0 and below 1")

    def unfit(self, facts: Facts) -> str | None:
        """Also a model whose widths have no common block."""
        said = super().unfit(facts)
        # A file of the library may have 0 here, and the number of blocks instead.
        if said is None and self.boft_block_size and self._fitted(facts) < 2:
            return "no block divides the inputs of all targeted layers"
        return said

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, with blocks that fit."""
        return {**super().peft_settings(facts), "boft_block_size": self._fitted(facts), "boft_n_butterfly_factor": 1}

    def wrapped(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base, computed alike on every machine."""
        from peft.tuners.boft import layer

        known = layer._FBD_CUDA  # noqa: SLF001 - there is no setting for it
        # Taken for not available, the extension is neither compiled nor are there warnings that it cannot be.
        layer._FBD_CUDA = False  # noqa: SLF001
        try:
            return super().wrapped(base)
        finally:
            layer._FBD_CUDA = known  # noqa: SLF001

    def trainable_parameters(self, facts: Facts) -> int | None:
        """`inputs / b` blocks of [b, b], of which the skew-symmetric part counts, and a scale for each output."""
        shapes = self.targeted_shapes(facts)
        if shapes is None:
            return None
        return facts.shapes.layers * sum(inputs * self._fitted(facts) + outputs for inputs, outputs in shapes)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Common divisors of all inputs."""
        common = math.gcd(*self._inputs(facts))
        return [size for size in range(2, common + 1) if common % size == 0]

    def _fitted(self, facts: Facts) -> int:
        return largest_divisor(self._inputs(facts), self.boft_block_size)

    def _inputs(self, facts: Facts) -> list[int]:
        return [inputs for inputs, _ in self.targeted_shapes(facts) or ()]


METHOD = Boft
