"""QLoRA: LoRA in every linear layer of a base packed into 4 bits (Dettmers et al., 2023, arXiv 2305.14314)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench.methods._lora import LowRank
from peftbench.methods._method import Facts
from peftbench.methods._peft import layers
from peftbench.spec import Quantization


@dataclass(frozen=True)
class QLora(LowRank):
    """LoRA on a base in NF4 with double quantisation (section 3), packed when the model is loaded.

    Defaults are the paper's for models of up to 13 billion parameters (appendix B.2); larger ones have a dropout of
    0.05 and half the learning rate. It computes in bf16, which is `train.precision`, and pages the optimiser's state,
    which changes no result and is not done here. A role that the model has no layers in is left away.
    """

    learning_rate: ClassVar[float] = 2e-4
    # What is packed cannot be added to.
    merges: ClassVar[bool] = False
    quantization: ClassVar[Quantization | None] = "nf4"

    targets: tuple[str, ...] = ("query", "key", "value", "output", "gate", "up", "down")
    r: int = 64
    lora_alpha: int = 16
    lora_dropout: float = 0.1

    def unfit(self, facts: Facts) -> str | None:
        """Roles that are no linear layers of the model are left away, unless none is left."""
        if self.target_modules is None and self._roles(facts):
            return None
        return super().unfit(facts)

    def target_names(self, facts: Facts) -> list[str]:
        """The layers in those of the roles that the model has."""
        return list(self.target_modules or layers(facts, self._roles(facts)))

    def _roles(self, facts: Facts) -> list[str]:
        return [role for role in self.targets if role in facts.roles]


METHOD = QLora
