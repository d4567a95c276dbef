"""HRA: a chain of trained Householder reflections turns the layer's input (Yuan et al., 2024, arXiv 2405.17484)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Hra(TargetedPeftMethod):
    """The weight is multiplied by `r` reflections, one vector each; they start in pairs that undo each other.

    So `r` has to be even. The paper's regulariser, and the library's Gram-Schmidt (which divides by zero at such a
    start), are left out: this is the paper's lambda of 0.
    """

    config_class: ClassVar[str] = "HRAConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 8

    def __post_init__(self) -> None:
        if self.r < 2 or self.r % 2:
            raise ValueError("r must be an even number of reflections, which start in pairs")

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A vector over the inputs for each reflection."""
        del outputs
        return self.r * inputs

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Even numbers."""
        return range(2, facts.hidden_size + 1, 2)


METHOD = Hra
