"""GaLore: all weights are trained, their gradients projected to a low rank (Zhao et al., 2024, arXiv 2403.03507)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.methods._method import Family
from peftbench.methods._whole import WholeModel

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Galore(WholeModel):
    """Everything is trained, as by `full`; what is saved is memory of the optimiser.

    The gradients of the matrices in attention and feed-forward are projected onto the `r` first singular vectors of
    their shorter side, AdamW steps there, and `scale` times that step is projected back. Every `update_proj_gap` steps
    the vectors are those of the gradient of that step; moments are not transformed with them, as in the paper.
    Embeddings, head, norms and biases have AdamW's usual step.

    Rank, scale and learning rate are those of the paper's fine-tuning on GLUE, the gap is that of the authors'
    package. The rank decides how large the moments are, not how much is trained, so that there is no `size`. Gradients
    are kept whole until the step: the paper's updates layer by layer, which save those as well, are not done here.

    The package `galore-torch` differs in small things: it decays weights after the step instead of before, and adds
    its epsilon, 1e-6 by default, before the bias is corrected. Here both are as in AdamW of torch.
    """

    family: ClassVar[Family | None] = "selective"

    r: int = 4
    update_proj_gap: int = 200
    scale: float = 4.0

    def __post_init__(self) -> None:
        if min(self.r, self.update_proj_gap) < 1:
            raise ValueError("r and update_proj_gap must be at least 1")
        if not self.scale > 0 or not math.isfinite(self.scale):
            raise ValueError("scale must be above 0")

    def optimizer(self, module: nn.Module, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """AdamW on what is projected, and on the rest."""
        from peftbench.methods._galore import ProjectedAdamW, matrices

        return ProjectedAdamW(
            groups, matrices(module), r=self.r, update_proj_gap=self.update_proj_gap, scale=self.scale
        )


METHOD = Galore
