"""IA3: trained vectors rescale keys, values and inner activations (Liu et al., 2022, arXiv 2205.05638)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod, layers


@dataclass(frozen=True)
class Ia3(TargetedPeftMethod):
    """Each target's output is multiplied by a vector of ones to be trained; a feed-forward target's input instead.

    The paper (section 3.3) rescales what goes into the second feed-forward layer: `feedforward_targets` are the roles
    rescaled at their input, `feedforward_modules` the same in peft's own terms. Where one layer computes query, key
    and value together, the query is rescaled with them.
    """

    config_class: ClassVar[str] = "IA3Config"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-2

    targets: tuple[str, ...] = ("key", "value", "down")
    feedforward_targets: tuple[str, ...] = ("down",)
    feedforward_modules: tuple[str, ...] | None = None

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, with roles turned into layer names; GPT-2 keeps its weights transposed."""
        settings = super().peft_settings(facts)
        del settings["feedforward_targets"]
        inner = self.feedforward_modules or layers(facts, self.feedforward_targets)
        settings["feedforward_modules"] = [name for name in inner if name in settings["target_modules"]]
        return {**settings, "fan_in_fan_out": facts.model_type == "gpt2"}


METHOD = Ia3
