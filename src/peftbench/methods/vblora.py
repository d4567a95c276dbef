"""VB-LoRA: low-rank updates are composed of vectors of one shared bank (Li et al., 2024, arXiv 2405.15179)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench.methods._fit import largest_divisor
from peftbench.methods._method import Facts
from peftbench.methods._peft import TargetedPeftMethod


@dataclass(frozen=True)
class VbLora(TargetedPeftMethod):
    """Rows of A and columns of B are cut into pieces; each piece is a mixture of the `topk` vectors with the largest
    trained logits, out of a trained bank of `num_vectors`.

    `vector_length` is lowered to the largest that divides inputs and outputs of all targets. The bank starts within
    `init_vector_bank_bound`, and so the model near the base, not at it. Logits learn at ten times the rate of the bank.
    """

    config_class: ClassVar[str] = "VBLoRAConfig"
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    quantised_base: ClassVar[bool] = True
    transposes: ClassVar[bool] = True
    size: ClassVar[str | None] = "num_vectors"

    r: int = 4
    num_vectors: int = 256
    vector_length: int = 256
    topk: int = 2
    vblora_dropout: float = 0.0
    init_vector_bank_bound: float = 0.02
    init_logits_std: float = 0.1

    def __post_init__(self) -> None:
        for name in ("r", "num_vectors", "vector_length", "topk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.topk > self.num_vectors:
            raise ValueError("topk must be at most num_vectors")
        if self.init_vector_bank_bound <= 0:
            raise ValueError("init_vector_bank_bound must be above 0: from a bank of zeros nothing is learned")
        if not 0 <= self.vblora_dropout < 1:
            raise ValueError("vblora_dropout must be at least 0 and below 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters with vectors of a length that fits."""
        return {**super().peft_settings(facts), "vector_length": self._length(facts)}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """The bank, and for each piece of A [r, inputs] and B [outputs, r] as many logits as the bank has vectors."""
        shapes, length = self.targeted_shapes(facts), self._length(facts)
        if shapes is None:
            return None
        pieces = facts.shapes.layers * self.r * sum(map(sum, shapes)) // length
        return self.num_vectors * (length + pieces)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Banks of at least `topk` vectors."""
        return range(self.topk, 16 * max(facts.hidden_size, self.num_vectors))

    def learning_rate_factor(self, name: str) -> float:
        """Ten for logits: the usual rates are 1e-2 for them and 1e-3 for the bank."""
        return 10.0 if "vblora_logits" in name else 1.0

    def _length(self, facts: Facts) -> int:
        shapes = self.targeted_shapes(facts)
        widths = [width for shape in shapes or () for width in shape]
        return largest_divisor(widths, self.vector_length) if widths else self.vector_length


METHOD = VbLora
