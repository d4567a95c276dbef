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
    """LoRA on a base in NF4 with double quantisation, whatever the model is asked for in (sections 3 and 4).

    Rank, `lora_alpha`, the learning rate and layers are those of the paper's large models (appendix B.2), and so is the
    dropout, 0.1 up to 13 billion parameters; above it has 0.05. It computes in bf16: set `train.precision`. A role that
    the model has no layers in is left away. Paged optimisers change no result, and are not used.
    """

    learning_rate: ClassVar[float] = 2e-4
    quantization: ClassVar[Quantization | None] = "nf4"

    targets: tuple[str, ...] = ("query", "key", "value", "output", "gate", "up", "down")
    r: int = 64
    lora_alpha: int = 16
    lora_dropout: float = 0.1

    def unfit(self, facts: Facts) -> str | None:
        """Roles that are no linear layers of the model are left away, unless none is left."""
        if self.target_modules or self._roles(facts):
            return None
        return super().unfit(facts)

    def target_names(self, facts: Facts) -> list[str]:
        """The layers in those of the roles that the model has."""
        return list(self.target_modules or layers(facts, self._roles(facts)))

    def _roles(self, facts: Facts) -> list[str]:
        return [role for role in self.targets if role in facts.roles]


METHOD = QLora
