"""PiSSA: LoRA that starts at the largest singular vectors of the weights (Meng et al., 2024, arXiv 2404.02948)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._lora import TAKEN_FROM_BASE, LowRank
from peftbench.methods._method import Base, Facts


@dataclass(frozen=True)
class Pissa(LowRank):
    """A and B start at the `r` largest singular values and vectors of the weight, which keeps the rest (section 3).

    So the start is the base up to rounding, and the base's weights are changed: they come back after the run. The
    vectors are found anew when an adapter is loaded, so those that a randomised method finds would not do.
    """

    quantised_base: ClassVar[bool] = False

    lora_alpha: int = 16

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """LoRA's own, and the start."""
        return {**super().peft_settings(facts), "init_lora_weights": "pissa"}

    def without_sites(self) -> str | None:
        """The base without the branch lacks its largest singular values."""
        return TAKEN_FROM_BASE

    def changes(self, base: Base) -> Iterable[str]:
        """The weights that the start is taken from."""
        return self.folded(base)


METHOD = Pissa
