"""DoRA: magnitudes and directions of weights are trained apart (Liu et al., 2024, arXiv 2402.09353)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peftbench.methods._lora import LowRank
from peftbench.methods._method import Facts


@dataclass(frozen=True)
class Dora(LowRank):
    """The weight is `m * (W + lora_alpha / r * B A) / norm` (equation 5): one number in m for each output.

    m starts at the norms of the rows of W and B at zero, so that training starts at the base. No gradient goes through
    the norm (section 4.3).
    """

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """LoRA's own, and the switch."""
        return {**super().peft_settings(facts), "use_dora": True}

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """A, B and m."""
        return super().layer_parameters(inputs, outputs) + outputs


METHOD = Dora
