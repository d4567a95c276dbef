"""Super-Tuning: the largest entries of every weight are trained (arXiv 2607.09287)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from peftbench.methods._method import Facts, Family
from peftbench.methods._peft import TargetedPeftMethod

_MILLION = 10**6


@dataclass(frozen=True)
class Supertuning(TargetedPeftMethod):
    """The change of a share `1 - sparsity` of a weight's entries is trained, those of largest magnitude.

    Without `select_top` they are the smallest. `r` adds a low-rank update as LoRA has it, scaled by `lora_alpha / r`
    (2 when absent), with `lora_dropout`; the paper calls that Supra. Which entries they are is saved with the adapter.
    """

    config_class: ClassVar[str] = "SupertuningConfig"
    family: ClassVar[Family | None] = "selective"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 5e-4
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "sparsity"

    sparsity: float = 0.99
    select_top: bool = True
    r: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ValueError("sparsity must be at least 0 and below 1")
        if self.r is not None and self.r < 1:
            raise ValueError("r must be at least 1, or left away")
        if self.r is None and (self.lora_alpha is not None or self.lora_dropout):
            raise ValueError("lora_alpha and lora_dropout belong to a low-rank update: give r as well")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError("lora_dropout must be at least 0 and below 1")

    def unfit(self, facts: Facts) -> str | None:
        """A target too small for one trained entry, beside what is refused of any method."""
        said = super().unfit(facts)
        if said is None and any(self._entries(*shape) < 1 for shape in self.targeted_shapes(facts) or ()):
            return f"a sparsity of {self.sparsity} leaves nothing to train in a target of {facts.model_type}"
        return said

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A share of the weight's entries, and with r the two factors [r, inputs] and [outputs, r]."""
        return self._entries(inputs, outputs) + (self.r or 0) * (inputs + outputs)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """How many entries of a million are trained: from one of the smallest target to nearly all."""
        fewest = min((inputs * outputs for inputs, outputs in self.targeted_shapes(facts) or ()), default=1)
        return range(-(-_MILLION // fewest) + 1, _MILLION)

    def with_size(self, size: int) -> Self:
        """The same method with `size` trained entries of a million."""
        return replace(self, sparsity=round(1 - size / _MILLION, 6))

    def _entries(self, inputs: int, outputs: int) -> int:
        """Rounded down from the same product as the library has it."""
        return int(inputs * outputs * (1 - self.sparsity))


METHOD = Supertuning
