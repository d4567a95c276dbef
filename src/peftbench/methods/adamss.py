"""AdaMSS: a small update for each group of outputs that use alike directions (Zheng et al., 2025, NeurIPS).

openreview 8ZdWmpYxT0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from peftbench.errors import MissingExtra
from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import TargetedPeftMethod, layers

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Adamss(TargetedPeftMethod):
    """The layer's outputs are clustered in `num_subspaces` groups by their rows in the weight's first `r` directions.

    Each group gains `B A V'`, with V the frozen directions and A and B of rank `subspace_rank`, at most the group's
    size; B starts at zero. All groups are trained to the end: the library's pruning of groups is not switched on.
    Directions are drawn with `random_seed`; groups are not in the saved file and found anew when it is read.
    """

    config_class: ClassVar[str] = "AdamssConfig"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "num_subspaces"

    r: int = 100
    num_subspaces: int = 5
    subspace_rank: int = 1
    random_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("r", "num_subspaces", "subspace_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")

    def trainable_parameters(self, facts: Facts) -> int | None:
        """A is [1, r] for each group and B [1] for each output; a bias counts as one more input.

        With a higher rank than 1 it depends on the groups, some of which may be smaller than the rank.
        """
        if self.subspace_rank > 1 or self.targeted_shapes(facts) is None:
            return None
        linear, biased = facts.shapes.linear, facts.shapes.biased
        names = self.target_modules or layers(facts, self.targets)
        of_layers = [(inputs + (name in biased), outputs) for name in names for inputs, outputs in [linear[name]]]
        return facts.shapes.layers * sum(
            min(self.num_subspaces, outputs) * min(self.r, inputs, outputs) + outputs for inputs, outputs in of_layers
        )

    def attach(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base.

        Raises:
            MissingExtra: scikit-learn, which clusters, is not installed.
        """
        try:
            import sklearn  # noqa: F401
        except ImportError:
            raise MissingExtra("scikit-learn", "adamss") from None
        return super().attach(base)


METHOD = Adamss
