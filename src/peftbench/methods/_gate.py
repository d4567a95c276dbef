"""A gate at every site of an adapted model: a token's update is there or not, by how large it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from peftbench.errors import MethodProblem
from peftbench.methods._sites import Watch, real_tokens, relative_size
from peftbench.segments import carried

# The least width of the surrogate's slope, in relative sizes; also what it is while no update is there yet.
NARROWEST = 0.02


class Gated(nn.Module):
    """A module whose sites put out what they do with the adapter at open tokens, and without it at closed ones.

    A token is open at a site where the relative size of its update is at least the site's threshold; `thresholds` is
    [sites], all zero at the start. Backwards the step is taken for a sigmoid as wide as `kernel` times `usual`, and at
    least `NARROWEST`: for the thresholds alone, so that an adapter is trained by the tokens where it is applied.
    `usual` [sites] is the mean relative size over the tokens of the step before, padding not among them: known when a
    step begins, it is the same in every part of its batch.
    """

    usual: torch.Tensor
    _sums: torch.Tensor

    def __init__(self, module: nn.Module, sites: Mapping[str, nn.Module], kernel: float) -> None:
        super().__init__()
        self.module = module
        self.kernel = kernel
        self.frozen_steps = 0
        self._mask: torch.Tensor | None = None
        self._densities: list[torch.Tensor] = []
        self.watch = Watch({})
        self.stand_at(sites)

    def stand_at(self, sites: Mapping[str, nn.Module]) -> None:
        """Gate these sites and no others, with new thresholds."""
        self.watch.close()
        self.watch = Watch(sites)
        self.watch.seers.append(self._gate)
        device = next(self.module.parameters()).device
        self.thresholds = nn.Parameter(torch.zeros(len(sites), dtype=torch.float32, device=device))
        self.register_buffer("usual", torch.zeros_like(self.thresholds.detach()))
        # The relative sizes of this step so far, added up, and how many they are: [2, sites].
        self.register_buffer("_sums", torch.zeros(2, len(sites), dtype=torch.float32, device=device))

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the module answers.

        Raises:
            MethodProblem: a token that examples share is to be trained on, which would count once.
        """
        self._mask = options.get("attention_mask")
        segments = carried(self._mask)
        if torch.is_grad_enabled() and segments is not None and segments.shared:
            raise MethodProblem("every example counts all of its tokens.", "Give each its own.")
        self._densities.clear()
        return self.module(*inputs, **options)

    def density(self) -> torch.Tensor | None:
        """The share of open tokens in the last forward pass, a mean over sites; None when no gradient is wanted.

        Its gradient goes to the thresholds.
        """
        return torch.stack(self._densities).mean() if self._densities else None

    def forget(self) -> None:
        """Know of no sizes, as before the first step."""
        self.usual.zero_()
        self._sums.zero_()

    def end_step(self) -> None:
        """Take the sizes seen since the last step for the usual ones: those of all parts of its batch."""
        self.usual = self._sums[0] / self._sums[1].clamp(min=1)
        self._sums.zero_()

    def _gate(self, place: int, base: torch.Tensor, adapted: torch.Tensor) -> torch.Tensor:
        size = relative_size(base, adapted)
        threshold = self.thresholds[place]
        is_open = size >= threshold
        gated = torch.where(is_open[..., None], adapted, base.to(adapted.dtype))
        if not torch.is_grad_enabled():
            return gated
        real = real_tokens(self._mask, size)
        self._sums[:, place] += torch.stack([torch.where(real, size, 0.0).sum(), real.sum()])
        if not threshold.requires_grad:
            return gated
        width = (self.kernel * self.usual[place]).clamp(min=NARROWEST)
        soft = torch.sigmoid((size - threshold) / width)
        # Nothing is added, not even by rounding: only the gradient is.
        slope = torch.where(real, soft - soft.detach(), 0.0)
        self._densities.append(torch.where(real, is_open + slope, 0.0).sum() / real.sum())
        return gated + (slope[..., None] * (adapted - base).detach()).to(gated.dtype)


class Together(torch.optim.Optimizer):
    """Two optimisers as one: each steps its own groups, and a schedule of learning rates reaches all."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        groups = [group for part in parts for group in part.param_groups]
        super().__init__(groups, {})
        self._parts = tuple(parts)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch has overloads
        """A step of each."""
        assert closure is None
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of each."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of each; the groups become new ones, which a schedule has to reach."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001 - as in torch
        """Forget the gradients of each, those that it keeps outside its groups too."""
        for part in self._parts:
            part.zero_grad(set_to_none)
