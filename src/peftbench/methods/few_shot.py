"""Few-shot: the untouched model answers behind a few training examples (Brown et al., 2020, arXiv 2005.14165)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from peftbench.methods._method import Base, Facts, Family, Method

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FewShot(Method):
    """No training: `k` training examples stand as earlier questions and answers in every prompt.

    They are drawn anew for each seed, from the rows that training with this seed would learn from (`train.limit` and
    `train.validation_share` count), so that their answers take turns; all questions of a run see the same ones. With a
    chat template they are earlier turns; without one they are asked and answered as in training, with the end token.

    They share the room of a prompt evenly with the question (`evaluate.max_length` or the context, less what is kept
    for the answer). An example that takes more than its share gives way to the next one drawn, and where too few are
    short enough the run fails and says so. A question's body is cut to the room that is left, and what does not fit
    even so counts as unfit.
    """

    family: ClassVar[Family | None] = "reference"
    trains: ClassVar[bool] = False
    quantised_base: ClassVar[bool] = True
    identity_at_start: ClassVar[bool] = True
    reference: ClassVar[Literal["floor", "ceiling"] | None] = "floor"

    k: int = 4

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("k must be at least 1: without examples it is zero_shot")

    @property
    def shots(self) -> int:
        """The examples."""
        return self.k

    def attach(self, base: Base) -> nn.Module:
        """The base itself."""
        return base.model

    def trainable_parameters(self, facts: Facts) -> int:
        """None."""
        del facts
        return 0


METHOD = FewShot
