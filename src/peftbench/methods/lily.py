"""LILY: low-rank updates whose factors layers share and a router mixes (Zhong et al., 2025, arXiv 2407.09946)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class Lily(TargetedPeftMethod):
    """The layer's output gains `scaling * B A x`: `stride_A` neighbouring blocks share an A, and B is a mixture of
    `num_B` that all blocks share; it starts at zero, so that training starts at the base.

    A router weighs them by the mean over all tokens of a batch, padding and other rows included: an answer knows
    tokens to come, changes with what it is computed beside, and cannot be continued from a cache.
    """

    config_class: ClassVar[str] = "LilyConfig"
    identity_at_start: ClassVar[bool] = True
    causal: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 3e-4
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 32
    stride_A: int = 1  # noqa: N815 - the library's name
    num_B: int = 2  # noqa: N815 - the library's name
    scaling: float = 1.0

    def __post_init__(self) -> None:
        for name in ("r", "stride_A"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.num_B < 2:
            raise ValueError("num_B must be at least 2: the router has nothing to mix")

    def trainable_parameters(self, facts: Facts) -> int | None:
        """For each target an A [r, inputs] every `stride_A` blocks, `num_B` B [outputs, r] once, and in every block a
        router [num_B, r]."""
        shapes, blocks = self.targeted_shapes(facts), facts.shapes.layers
        if shapes is None:
            return None
        groups = -(-blocks // self.stride_A)
        numbers = [groups * inputs + self.num_B * outputs + blocks * self.num_B for inputs, outputs in shapes]
        return self.r * sum(numbers)


METHOD = Lily
