"""Bottleneck adapters: two small layers with a non-linearity between them, beside or behind a part of each block."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from peftbench.methods._method import Base, Facts, Family, Method

if TYPE_CHECKING:
    import torch
    from torch import nn

# What a forward hook of torch is told and gives: the module, its inputs, its output.
Hook = Callable[["nn.Module", tuple[Any, ...], Any], Any]


@dataclass(frozen=True)
class BottleneckMethod(Method):
    """An adapter computes `scaling * up(f(down(x)))`, from the width of the model to `width` and back, with biases.

    `width` is the bottleneck; left away it is the width of the model divided by `reduction_factor`, rounded down.
    Adapters compute in full precision, whatever the base does. They are not linear, so that nothing can be merged.
    """

    family: ClassVar[Family | None] = "additive"
    size: ClassVar[str | None] = "width"
    quantised_base: ClassVar[bool] = True
    adapters_a_block: ClassVar[int] = 1

    width: int | None = None
    reduction_factor: float = 16.0
    non_linearity: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    scaling: float = 1.0

    def __post_init__(self) -> None:
        if self.width is not None and self.width < 1:
            raise ValueError("width must be at least 1")
        if not self.reduction_factor > 0 or not math.isfinite(self.reduction_factor):
            raise ValueError("reduction_factor must be above 0")
        if self.scaling == 0 or not math.isfinite(self.scaling):
            raise ValueError("scaling must not be 0")

    def trainable_parameters(self, facts: Facts) -> int:
        """2 m d + d + m for each adapter of bottleneck m in a model d wide (Houlsby et al., section 2.1)."""
        inner, outer = self._width(facts), facts.hidden_size
        return facts.shapes.layers * self.adapters_a_block * (2 * inner * outer + outer + inner)

    def with_size(self, size: int) -> Self:
        """Another bottleneck; the scaling is a factor of its own, and stays."""
        return replace(self, width=size)

    def without_sites(self) -> str | None:
        """None: the place of each adapter is one."""
        return None

    def sites(self, module: nn.Module) -> Mapping[str, nn.Module]:
        """Where the adapters are."""
        return {name: place for name, place in module.named_modules() if "adapter" in dict(place.named_children())}

    def site_count(self, facts: Facts) -> int:
        """As many as adapters."""
        return facts.shapes.layers * self.adapters_a_block

    def _width(self, facts: Facts) -> int:
        return self.width or max(1, int(facts.hidden_size // self.reduction_factor))

    def add_adapter(self, place: nn.Module, base: Base) -> nn.Module:
        """A new adapter, as `place.adapter`."""
        import torch

        outer, inner = base.facts.hidden_size, self._width(base.facts)
        where: dict[str, Any] = {"dtype": torch.float32, "device": next(place.parameters()).device}
        adapter = torch.nn.ModuleDict(
            {"down": torch.nn.Linear(outer, inner, **where), "up": torch.nn.Linear(inner, outer, **where)}
        )
        with torch.no_grad():
            self.start(adapter["down"], adapter["up"])
        place.add_module("adapter", adapter)
        return adapter

    @abstractmethod
    def start(self, down: nn.Module, up: nn.Module) -> None:
        """Give the two layers of an adapter their first values."""

    def adapted(self, adapter: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """What an adapter makes of [..., width of the model], in the precision that came in."""
        from torch.nn import functional

        function = getattr(functional, self.non_linearity)
        down, up = adapter.get_submodule("down"), adapter.get_submodule("up")
        output: torch.Tensor = up(function(down(inputs.float()))) * self.scaling
        return output.to(inputs.dtype)

    def serial(self, adapter: nn.Module) -> Hook:
        """A forward hook: what comes out of a module gains what the adapter makes of it."""

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            del module, inputs
            # Blocks of some architectures and versions put other things behind the hidden states.
            if isinstance(output, tuple):
                return (output[0] + self.adapted(adapter, output[0]), *output[1:])
            return output + self.adapted(adapter, output)

        return hook


@dataclass(frozen=True)
class NearIdentityMethod(BottleneckMethod):
    """Adapters whose weights start small, so that the model starts near the base, as Houlsby et al. need it.

    Weights are drawn from a Gaussian of `init_std`, cut off at two of it, biases are zero. 0.001 is what the authors'
    code starts from; the paper says 0.01, and that training is stable there and below (section 3.6). The streams of
    decoders are wider than BERT's: from 0.01 sequential adapters start far from SmolLM2-135M (logits up to 8 away, 0.07
    from 0.001). The `adapters` library draws from 0.02 without a cut unless it is told otherwise.
    """

    init_std: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.init_std > 0 or not math.isfinite(self.init_std):
            raise ValueError("init_std must be above 0")

    def start(self, down: nn.Module, up: nn.Module) -> None:
        """Small random weights in both layers."""
        import torch

        for layer in (down, up):
            cut = 2 * self.init_std
            torch.nn.init.trunc_normal_(layer.get_parameter("weight"), std=self.init_std, a=-cut, b=cut)
            layer.get_parameter("bias").zero_()
