"""PSOFT: the strongest singular directions of a weight are rotated and scaled (Wu et al., 2025, arXiv 2505.11235).

Efficient Orthogonal Fine-Tuning with Principal Subspace Adaptation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import TargetedPeftMethod, peft_model

if TYPE_CHECKING:
    import torch
    from torch import nn

_BASES = "psoft_bases.safetensors"


@dataclass(frozen=True)
class Psoft(TargetedPeftMethod):
    """A weight's part `B A` of its `r` strongest singular directions becomes `B (b R a) A`, R orthogonal and trained.

    R is a Cayley transform that starts as the identity (`use_cayley_neumann`: the first `num_cayley_neumann_terms` of
    its series); without `psoft_orth` it is any matrix. The vectors b and a start at one; `psoft_mag_b` and
    `psoft_mag_a` say whether they are there. `r` is lowered to the narrowest side of the targets. `psoft_svd` finds
    the directions exactly, or ("lowrank") nearly and faster.

    A singular vector may as well be its own opposite, as the machine has it, so A and B are saved with the adapter;
    the library computes them anew, and would load another adapter where they come out differently.
    """

    config_class: ClassVar[str] = "PsoftConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 4e-4
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    r: int = 32
    psoft_dropout: float = 0.0
    psoft_svd: Literal["full", "lowrank"] = "full"
    psoft_orth: bool = True
    psoft_mag_b: bool = True
    psoft_mag_a: bool = True
    use_cayley_neumann: bool = False
    num_cayley_neumann_terms: int = 5

    def __post_init__(self) -> None:
        if self.r < 2 and self.psoft_orth:
            raise ValueError("r must be at least 2: a single direction cannot be rotated")
        if self.r < 1:
            raise ValueError("r must be at least 1")
        if self.num_cayley_neumann_terms < 2:
            raise ValueError("num_cayley_neumann_terms must be at least 2: the first term is the identity")
        if not 0 <= self.psoft_dropout < 1:
            raise ValueError("psoft_dropout must be at least 0 and below 1")

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters with a rank that fits, at a scale of one."""
        r = self._rank(facts)
        return {**super().peft_settings(facts), "r": r, "psoft_alpha": r}

    def trainable_parameters(self, facts: Facts) -> int | None:
        """`r (r - 1) / 2` numbers make R (`r * r` where it is free), and r each of the two vectors."""
        shapes, r = self.targeted_shapes(facts), self._rank(facts)
        if shapes is None:
            return None
        matrix = r * (r - 1) // 2 if self.psoft_orth else r * r
        return facts.shapes.layers * len(shapes) * (matrix + r * (self.psoft_mag_b + self.psoft_mag_a))

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Ranks up to the narrowest side of the targets."""
        return range(2, min((min(shape) for shape in self.targeted_shapes(facts) or ()), default=2) + 1)

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        """The adapter folder, and beside it the frozen A and B."""
        from safetensors.torch import save_file

        super().save(module, base, folder)
        save_file({name: value.contiguous() for name, value in _bases(module).items()}, folder / _BASES)

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        """Read an adapter folder; one without A and B was written by the library alone."""
        from safetensors.torch import load_file

        super().load(module, base, folder)
        saved = load_file(folder / _BASES) if (folder / _BASES).is_file() else {}
        for name, value in _bases(module).items():
            value.copy_(saved.get(name, value))

    def _rank(self, facts: Facts) -> int:
        return min(self.r, *(min(shape) for shape in self.targeted_shapes(facts) or ((self.r, self.r),)))


def _bases(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in peft_model(module).named_buffers() if "_psoft_" in name}


METHOD = Psoft
