"""AdamW whose moments are those of projected gradients: the torch half of `galore`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights of the linear layers in attention and feed-forward: all matrices but embeddings and the head."""
    looked_up = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    outside = {value for module in (*looked_up, head) for value in module.parameters()}
    return [value for value in model.parameters() if value.ndim == 2 and value not in outside]


class ProjectedAdamW(torch.optim.AdamW):
    """AdamW that sees the gradients of some matrices in a space of rank `r`, and moves the matrices from there.

    In the place of such a matrix AdamW has a stand-in of zeros, with the projected gradient. The step it makes is
    projected back, taken `scale` times, and the stand-in is zero again. All other parameters are AdamW's own.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        matrices: Collection[nn.Parameter],
        *,
        r: int,
        update_proj_gap: int,
        scale: float,
    ) -> None:
        """Take `groups` as AdamW does; those of their parameters that are among `matrices` are projected."""
        self._scale = scale
        wanted = set(matrices)
        ours = [value for group in groups for value in group["params"] if value in wanted]
        found = {value: Projection(value, r, update_proj_gap) for value in ours}
        self._projections = {projection.stand_in: projection for projection in found.values()}
        stand_ins = [
            {**group, "params": [found[value].stand_in if value in found else value for value in group["params"]]}
            for group in groups
        ]
        super().__init__(stand_ins, betas=(0.9, 0.999), eps=1e-8)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, from the gradients that are there or that `closure` makes."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for projection in self._projections.values():
            projection.project()
        super().step()
        for group in self.param_groups:
            for projection in (self._projections[value] for value in group["params"] if value in self._projections):
                projection.move(self._scale, decay=group["lr"] * group["weight_decay"])
        return loss

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state, and through which directions each matrix is seen."""
        return {**super().state_dict(), "projections": [one.state() for one in self._projections.values()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a `state_dict`."""
        super().load_state_dict(state_dict)
        for projection, state in zip(self._projections.values(), state_dict["projections"], strict=True):
            projection.put(state)

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001 - as in torch
        """Forget the gradients, those of the matrices too."""
        super().zero_grad(set_to_none)
        for projection in self._projections.values():
            projection.weight.grad = None


class Projection:
    """A matrix [rows, columns] seen through `r` directions of its shorter side, or all where there are fewer.

    `basis` [shorter side, r] holds the singular vectors of the largest singular values of a gradient (Zhao et al.,
    2024, algorithm 2), of the first one and of every `gap`-th after it. Their signs are those that the decomposition
    happens to give.
    """

    def __init__(self, weight: nn.Parameter, r: int, gap: int) -> None:
        """Begin without a basis: the first gradient chooses it."""
        rows, columns = weight.shape
        self.weight = weight
        self._gap, self._seen = gap, 0
        self.basis = weight.new_empty(min(rows, columns), min(r, rows, columns))
        self._tall = rows >= columns
        rank = self.basis.shape[1]
        self.stand_in = nn.Parameter(weight.new_zeros((rows, rank) if self._tall else (rank, columns)))

    def project(self) -> None:
        """Give the stand-in the gradient of the matrix, if there is one."""
        gradient = self.weight.grad
        if gradient is None:
            self.stand_in.grad = None
            return
        if self._seen % self._gap == 0:
            left, _, right = torch.linalg.svd(gradient.float(), full_matrices=False)
            self.basis.copy_((right.T if self._tall else left)[:, : self.basis.shape[1]])
        self._seen += 1
        self.stand_in.grad = gradient @ self.basis if self._tall else self.basis.T @ gradient

    def state(self) -> dict[str, Any]:
        """The basis, and how many gradients were seen."""
        return {"basis": self.basis, "seen": self._seen}

    def put(self, state: Mapping[str, Any]) -> None:
        """Take up a `state`."""
        self.basis.copy_(state["basis"])
        self._seen = state["seen"]

    def move(self, scale: float, decay: float) -> None:
        """Move the matrix by what the stand-in has moved, which comes back to zero."""
        if self.stand_in.grad is None:
            return
        step = self.stand_in @ self.basis.T if self._tall else self.basis @ self.stand_in
        self.weight.mul_(1 - decay).add_(step, alpha=scale)
        self.stand_in.zero_()
