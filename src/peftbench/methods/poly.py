"""Poly: every layer mixes several low-rank updates, and how is learned (Ponti et al., 2022, arXiv 2202.13914)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import TargetedPeftMethod, layers

if TYPE_CHECKING:
    from torch import nn


# Layers of OPT that are given the tokens of all rows in one.
_IN_ONE_ROW = {"fc1", "fc2"}


@dataclass(frozen=True)
class Poly(TargetedPeftMethod):
    """The layer's output gains `B A x / r`, A and B weighted means of `n_skills` pairs; B starts at zero.

    A method trains one task here, so its router has one row of weights, drawn anew for each answer while training.
    With `n_splits` above 1 the weights differ between parts of the inputs and outputs, which it has to divide (MHR,
    arXiv 2211.03831).
    """

    config_class: ClassVar[str] = "PolyConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    size: ClassVar[str | None] = "r"

    r: int = 8
    n_skills: int = 4
    n_splits: int = 1

    def __post_init__(self) -> None:
        for name in ("r", "n_skills", "n_splits"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")

    def unfit(self, facts: Facts) -> str | None:
        """Parts that do not come out even, beside what is refused of any method."""
        said = super().unfit(facts)
        if said is None and facts.model_type == "opt" and not _IN_ONE_ROW.isdisjoint(self._names(facts)):
            return "peft's PolyConfig does not take the feed-forward layers of opt, which see all rows as one"
        widths = {width for shape in self.targeted_shapes(facts) or () for width in shape} if said is None else set()
        odd = [width for width in sorted(widths) if width % self.n_splits]
        return f"n_splits {self.n_splits} does not divide a width of {odd[0]}" if odd else said

    def layer_parameters(self, inputs: int, outputs: int) -> int:
        """`n_skills` pairs of A [inputs, r] and B [r, outputs], and a weight for each skill and part."""
        return self.n_skills * (self.r * (inputs + outputs) + self.n_splits)

    def attach(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base, which is told in every call that all rows are of the first task."""
        model = super().attach(base)
        model.register_forward_pre_hook(_of_first_task, with_kwargs=True)
        return model

    def _names(self, facts: Facts) -> set[str]:
        return {name.rpartition(".")[2] for name in self.target_modules or layers(facts, self.targets)}


def _of_first_task(
    module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    del module
    ids = options["input_ids"] if "input_ids" in options else inputs[0]
    return inputs, {**options, "task_ids": ids.new_zeros(len(ids))}


METHOD = Poly
