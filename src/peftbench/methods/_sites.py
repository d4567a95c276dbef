"""What layers put out without and with the adapter that a method puts beside them.

A *site* is such a layer, see `Method.sites`: one that the `peft` library wrapped, or one whose adapter is a forward
hook. Its output without the adapter is computed anyhow in most methods, and is not computed again there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from peftbench.segments import carried

# Told the number of a site and what it puts out without and with its adapter, both [..., width]; what is given back
# takes the place of the latter.
See = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor | None]
# Below this a norm counts as this.
_SMALLEST = 1e-6


class Watch:
    """Tells `seers`, one after the other, what every site puts out; `names` are those of the sites."""

    def __init__(self, sites: Mapping[str, nn.Module]) -> None:
        self.names = tuple(sites)
        self.seers: list[See] = []
        self._sites = [_Site(layer) for layer in sites.values()]
        self._hooks = [site.layer.register_forward_hook(self._told(place)) for place, site in enumerate(self._sites)]

    def close(self) -> None:
        """Look no more."""
        for hook in self._hooks:
            hook.remove()
        for site in self._sites:
            site.close()

    def _told(self, place: int) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            del layer
            base, adapted = self._sites[place].base(inputs), _first(output)
            for see in self.seers:
                changed = see(place, base, adapted)
                adapted = adapted if changed is None else changed
            return (adapted, *output[1:]) if isinstance(output, tuple) else adapted

        return hook


class _Site:
    """A layer, and what it last put out without its adapter."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self._noted: tuple[tuple[Any, ...], torch.Tensor] | None = None
        inner = getattr(layer, "base_layer", None)
        if inner is None:
            # The adapter is a hook itself: what comes before all hooks is without it.
            self._plain = None
            self.close = layer.register_forward_hook(self._note, prepend=True).remove
        else:
            self._plain = inner.forward
            self.close = self._overheard(inner)

    def base(self, inputs: tuple[Any, ...]) -> torch.Tensor:
        """What comes out without the adapter; computed here where the library's layer asked its own for another."""
        noted, self._noted = self._noted, None
        if noted is not None and (self._plain is None or noted[0][0] is inputs[0]):
            return noted[1]
        assert self._plain is not None
        output: torch.Tensor = self._plain(*inputs)
        return output

    def _note(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        del layer
        self._noted = inputs, _first(output)

    def _overheard(self, inner: nn.Module) -> Callable[[], None]:
        """Note what the library's layer gets from its own; not with a hook, of which some warn. Returns how to stop."""
        own, plain = vars(inner), inner.forward
        before = {key: own[key] for key in ("forward",) if key in own}

        def forward(*inputs: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = plain(*inputs)
            self._noted = inputs, output
            # Some layers add to what they get, in its place.
            return output.clone()

        def stop() -> None:
            own.pop("forward", None)
            own.update(before)

        own["forward"] = forward
        return stop


def relative_size(base: torch.Tensor, adapted: torch.Tensor) -> torch.Tensor:
    """How large an update is beside what it is added to: `||adapted - base|| / ||base||` over the last dimension.

    No gradient goes through it. A base of nothing counts as one of 1e-6.
    """
    with torch.no_grad():
        before = base.float()
        update: torch.Tensor = torch.linalg.vector_norm(adapted.float() - before, dim=-1)
        size: torch.Tensor = torch.linalg.vector_norm(before, dim=-1).clamp(min=_SMALLEST)
        return update / size


def real_tokens(mask: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """Which of a site's tokens, of the shape of `like`, are no padding.

    `mask` is the caller's attention mask, [rows, tokens], 1 where a token is; None, or of segments, where all are. A
    site may be asked for the last tokens alone: after a cache, or before a head. Some layers are given the tokens of
    all rows in one.
    """
    if mask is None or carried(mask) is not None:
        return torch.ones_like(like, dtype=torch.bool)
    return mask[:, -(like.numel() // len(mask)) :].reshape(like.shape).bool()


def _first(output: Any) -> torch.Tensor:
    """The hidden states; blocks of some architectures and versions put other things behind them."""
    states: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return states
