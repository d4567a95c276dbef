"""P-tuning v2: trained keys and values in every layer, without an encoder (Liu et al., 2022, arXiv 2110.07602)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._prefix import PrefixMethod, cached_width


@dataclass(frozen=True)
class PTuningV2(PrefixMethod):
    """`num_virtual_tokens` positions that every token sees, in each layer trained themselves (section 3.2).

    The paper finds that an encoder helps on some data sets alone (section 3.3); with one this is `prefix_tuning`. The
    language model's head answers, where the paper trains a classifier.
    """

    config_class: ClassVar[str] = "PrefixTuningConfig"
    learning_rate: ClassVar[float] = 5e-3
    size: ClassVar[str | None] = "num_virtual_tokens"

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """Prefix tuning's, without its encoder."""
        return {**super().peft_settings(facts), "prefix_projection": False}

    def trainable_parameters(self, facts: Facts) -> int:
        """A key and a value for each virtual token in each layer."""
        return self.num_virtual_tokens * 2 * facts.shapes.layers * cached_width(facts)


METHOD = PTuningV2
