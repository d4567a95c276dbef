"""SVFT: sparse entries between the singular vectors of a weight are trained (Lingam et al., 2024, arXiv 2405.19597)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from peftbench.errors import MethodProblem
from peftbench.methods._method import Base, Facts, Family, Method
from peftbench.methods._peft import layers, missing_role, modules_of, names_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from peftbench.methods._svft import SparseUpdate

_PLACES = "places.safetensors"
# The bits of U and V are others on another machine, and 16 bits round them; a vector that is another one is far off.
_ALIKE = 1e-2


@dataclass(frozen=True)
class Svft(Method):
    """A layer of weight `W = U S V^T` puts out `W x + gate * U M V^T x`; of M a fixed pattern is there, and trained.

    `banded` are the diagonal and `off_diag` diagonals on either side of it, `plain` the diagonal alone; `random` and
    `top_k` have as many entries as the band would, anywhere: drawn with `seed`, or where the vectors of the paper's
    rule are most alike (the largest `|u_i . v_j|`). That rule needs layers with as many inputs as outputs; in others
    the largest products of two singular values are taken.

    The gate is a sigmoid for each layer, starting at a half, as in the authors' code; the paper does not have it. M
    starts at zero, so that the model starts at the base; in their code it starts at small random numbers.

    U and V are kept beside the weight, in its precision: for a square layer twice its memory. `random` and `top_k`
    also make M a full matrix while they compute. Computing U and V takes seconds for a large layer on an accelerator,
    and a minute on a processor; they are not saved but computed again, and an adapter whose vectors come out
    differently is refused.
    """

    family: ClassVar[Family | None] = "reparameterised"
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-2
    merges: ClassVar[bool] = True
    size: ClassVar[str | None] = "off_diag"

    targets: tuple[str, ...] = ("query", "key")
    pattern: Literal["plain", "banded", "random", "top_k"] = "banded"
    off_diag: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("targets must name a role")
        if "norm" in self.targets:
            raise ValueError("targets must be linear layers, and norm is none")
        if self.off_diag < 0:
            raise ValueError("off_diag must be at least 0")
        if self.seed < 0:
            raise ValueError("seed must be at least 0")

    def unfit(self, facts: Facts) -> str | None:
        """A model that lacks a role asked for, or has a layer that is too small for so many diagonals."""
        if missing := missing_role(facts, self.targets):
            return missing
        sizes = self._sizes(facts)
        if all(self._beside < size for size in sizes):
            return None
        smallest = min(sizes)
        return (
            f"off_diag {self.off_diag} does not fit a layer of {smallest} singular values; the most is {smallest - 1}"
        )

    def trainable_parameters(self, facts: Facts) -> int:
        """In a layer of n singular values the diagonal, 2 d others of n - 1 to n - d, and the gate (Table 7)."""
        return facts.shapes.layers * sum(self._entries(size) + 1 for size in self._sizes(facts))

    def sizes(self, facts: Facts) -> Sequence[int]:
        """From the diagonal alone to all of the smallest layer's; `plain` has no choice."""
        return (self.off_diag,) if self.pattern == "plain" else range(min(self._sizes(facts)))

    @property
    def _beside(self) -> int:
        return 0 if self.pattern == "plain" else self.off_diag

    def _sizes(self, facts: Facts) -> list[int]:
        """Singular values of each targeted layer of a block."""
        shapes = (facts.shapes.linear.get(name) for name in layers(facts, self.targets))
        return [min(shape) for shape in shapes if shape is not None]

    def _entries(self, size: int) -> int:
        return size * (2 * self._beside + 1) - self._beside * (self._beside + 1)

    def without_sites(self) -> str | None:
        """None: every targeted layer is one."""
        return None

    def sites(self, module: nn.Module) -> Mapping[str, nn.Module]:
        """The targeted layers."""
        return {name: layer for name, layer in module.named_modules() if "svft" in dict(layer.named_children())}

    def site_count(self, facts: Facts) -> int:
        """The targeted layers of all blocks."""
        return facts.shapes.layers * len(self._sizes(facts))

    def attach(self, base: Base) -> nn.Module:
        """The base, with an update beside each targeted layer."""
        from peftbench.methods._svft import SparseUpdate

        for number, layer in enumerate(modules_of(base.model, layers(base.facts, self.targets))):
            weight = _weight(layer)
            count = self._entries(min(weight.shape))
            update = SparseUpdate(weight, self.pattern, count, self.seed + number)
            layer.add_module("svft", update)
            update.handle = layer.register_forward_hook(_updated)
        return base.model

    def folded(self, base: Base) -> Iterable[str]:
        """The weights of the targeted layers."""
        targeted = modules_of(base.model, layers(base.facts, self.targets))
        return names_of(base.model, (layer.get_parameter("weight") for layer in targeted))

    def merge(self, module: nn.Module, base: Base) -> nn.Module:
        """The base, with the updates added to its weights."""
        import torch

        for layer in modules_of(base.model, layers(base.facts, self.targets)):
            update: Any = layer.get_submodule("svft")
            with torch.no_grad():
                weight = _weight(layer)
                weight.copy_(weight.float() + update.weight())
            update.handle.remove()
            del layer.svft
        return module

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        """What is trained; beside it where the entries stand, and what each update makes of a fixed vector."""
        from safetensors.torch import save_file

        super().save(module, base, folder)
        beside = {f"{name}.probe": _probe(update) for name, update in _updates(module)}
        for name, update in _updates(module):
            if not update.banded:
                beside |= {f"{name}.rows": update.rows, f"{name}.columns": update.columns}
        save_file(beside, folder / _PLACES)

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        """Read what `save` wrote.

        Raises:
            MethodProblem: an update makes something else of the fixed vector than it did where it was trained.
        """
        import torch
        from safetensors.torch import load_file

        super().load(module, base, folder)
        beside = load_file(folder / _PLACES)
        for name, update in _updates(module):
            if not update.banded:
                update.rows.copy_(beside[f"{name}.rows"])
                update.columns.copy_(beside[f"{name}.columns"])
            was, found = beside[f"{name}.probe"].float().cpu(), _probe(update).float().cpu()
            if torch.linalg.norm(found - was) > _ALIKE * torch.linalg.norm(was):
                raise MethodProblem(
                    f"The adapter in {folder} was trained with other singular vectors than {name} has here.",
                    "Use the base it was trained on; if it is that, load it on the kind of device it was trained on.",
                )


def _weight(layer: nn.Module) -> torch.Tensor:
    """The weight of a linear layer as [outputs, inputs]; GPT-2 keeps it the other way round."""
    from torch import nn

    weight = layer.get_parameter("weight")
    return weight if isinstance(layer, nn.Linear) else weight.T


def _updates(module: nn.Module) -> Iterator[tuple[str, SparseUpdate]]:
    from peftbench.methods._svft import SparseUpdate

    for name, child in module.named_modules():
        if isinstance(child, SparseUpdate):
            yield name, child


def _probe(update: SparseUpdate) -> torch.Tensor:
    """What an update makes of one fixed vector, [outputs]."""
    import torch

    inputs = torch.arange(update.right.shape[1], device=update.right.device).cos()
    with torch.no_grad():
        made: torch.Tensor = update(inputs.to(update.right.dtype))
    return made


def _updated(layer: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    update: Any = layer.get_submodule("svft")
    added: torch.Tensor = update(inputs[0])
    return output + added


METHOD = Svft
