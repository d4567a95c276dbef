"""Attaching a method to a base and giving the base back bit for bit.

The structure of the base (its modules, hooks, attributes, configuration) is noted before a method touches it and put
back afterwards, so no method has to undo its own surgery. Values are put back for the parameters that a method says it
changes; a checksum over all values finds a method that changes others.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import weakref
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from peftbench.errors import MethodProblem
from peftbench.methods._method import Base, Kept, Method
from peftbench.methods._snapshot import Snapshot

Checksum = dict[str, tuple[int, ...]]
# A prime, so that exchanged rows or columns of the usual widths land in different sums; and how many times as many are
# summed at once: a sum in more bits than its terms first copies them all into these.
_PLACES, _AT_ONCE = 61, 2**12
_WIDTHS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Adapter:
    """A method attached to a base: the module to call, and the parameters that are trained.

    `added` is how many numbers it has in parameters that are not the base's.
    """

    method: Method
    module: nn.Module
    trainable: dict[str, nn.Parameter]
    added: int = 0

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.trainable.values())

    @property
    def size(self) -> Kept:
        """How much is trained, or was before."""
        kept = self.method.kept
        if kept is None:
            return Kept(self.parameters)
        return kept if kept.parameters is not None else replace(kept, parameters=self.added)

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of what is trained, in host memory."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.trainable.items()}

    def put(self, state: Mapping[str, torch.Tensor]) -> None:
        """Give what is trained the values of a `state`."""
        with torch.no_grad():
            for name, value in self.trainable.items():
                value.copy_(state[name])


class Original:
    """The values of a base as they were loaded: a checksum of all, and on disk a copy of those that a method changes.

    Both are made on first need and hold as long as the base does, for after every method it is proven to have these
    values again. A base that failed the proof has to be dropped, and this with it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._checksum: Checksum | None = None
        self._copy: Snapshot | None = None
        self._copied: frozenset[str] = frozenset()

    def note(self, changed: Collection[str]) -> None:
        """Note the values before a method is attached that changes some."""
        if self._checksum is None:
            self._checksum = checksum(self._model)
        if not self._copied.issuperset(changed):
            if self._copy is None:
                self._copy = Snapshot()
                # A bench that nobody clears takes the file with it.
                weakref.finalize(self, self._copy.close)
            # Those of the methods before as well: in a benchmark they take turns.
            self._copied = self._copied.union(changed)
            self._copy.take({name: self._model.get_parameter(name) for name in self._copied})

    def put_back(self, changed: Collection[str]) -> None:
        """Give parameters of these names their values back."""
        if changed and self._copy is not None:
            self._copy.put_back({name: self._model.get_parameter(name) for name in changed})

    def differing(self) -> list[str]:
        """Names whose bits are not what they were."""
        return differing(self._checksum or {}, checksum(self._model))

    def close(self) -> None:
        """Give up the copy."""
        if self._copy is not None:
            self._copy.close()


@contextlib.contextmanager
def attached(
    method: Method, base: Base, original: Original | None = None, *, to_merge: bool = False
) -> Iterator[Adapter]:
    """Attach a method for the length of a `with` block; afterwards the base is what it was.

    Whoever attaches one method after the other to a base keeps its `original`, so that its values are noted once.
    With `to_merge` the adapter may be folded into the base before the end.

    Raises:
        MethodProblem: the method leaves the base unfrozen, trains nothing, or changed the base's values; or it is to be
            merged into packed weights, which would be rounded anew.
    """
    model = base.model
    if to_merge:
        _refuse_packed(method, base)
    structure = Structure(model)
    own = {value: name for name, value in model.named_parameters()}
    declared = frozenset(method.changes(base))
    aside = declared.union(method.folded(base) if to_merge else ())
    with contextlib.ExitStack() as stack:
        stack.enter_context(method.in_use())
        if original is None:
            original = stack.enter_context(contextlib.closing(Original(model)))
        original.note(aside)
        try:
            module: object = method.attach(base)
            if not isinstance(module, nn.Module):
                raise MethodProblem(
                    f"`attach` of {type(method).__name__} returned {type(module).__name__}, which is no module.",
                    "Return the module to call: `base.model`, or one around it.",
                )
            added = sum(value.numel() for value in module.parameters() if value not in own)
            yield Adapter(method, module, _trainable(method, module, own, declared), added)
        finally:
            structure.restore()
            for value in model.parameters():
                value.grad = None
            original.put_back(aside)
        changed = original.differing()
    if changed:
        raise MethodProblem(
            f"{type(method).__name__} changed {changed[0]!r} of the base and does not say so.",
            "Name what training changes in `changes`, so that it is kept aside and put back.",
        )


def _refuse_packed(method: Method, base: Base) -> None:
    """Packed weights that something is folded into are rounded anew, and would answer otherwise."""
    packed = [name for name in method.folded(base) if is_packed(base.model.get_parameter(name))]
    if packed:
        raise MethodProblem(
            f"{type(method).__name__} cannot be merged exactly: {packed[0]!r} of the base is packed, and would be "
            "rounded anew.",
            "Evaluate it attached, or merge it into the base as its files have it.",
        )


def is_packed(value: torch.Tensor) -> bool:
    """Whether a parameter holds other numbers than those it stands for."""
    return not value.is_floating_point() or hasattr(value, "__tensor_flatten__")


def checksum(model: nn.Module) -> Checksum:
    """Sums over the bits of every parameter and buffer, by place modulo a prime; any single change shows."""
    values = [*model.named_parameters(), *model.named_buffers()]
    return {name: tuple(itertools.chain(*map(_bits, _stored(value)))) for name, value in values}


def _stored(value: torch.Tensor) -> Iterator[torch.Tensor]:
    """The plain tensors behind a parameter or buffer: itself, or where it is packed its parts and their scales."""
    if hasattr(value, "__tensor_flatten__"):
        for name in value.__tensor_flatten__()[0]:
            yield from _stored(getattr(value, name))
        return
    yield value.detach()
    scales = getattr(value, "quant_state", None)
    while scales is not None:
        yield from (item for item in vars(scales).values() if isinstance(item, torch.Tensor))
        # Scales may be packed themselves.
        scales = getattr(scales, "state2", None)


def differing(before: Checksum, after: Checksum) -> list[str]:
    """Names whose bits differ, or that only one side has."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _bits(value: torch.Tensor) -> tuple[int, ...]:
    flat = value.contiguous().view(-1)
    bits = flat if flat.dtype is torch.bool else flat.view(_WIDTHS[flat.element_size()])
    whole = bits.numel() // _PLACES * _PLACES
    sums = torch.zeros(_PLACES, dtype=torch.int64, device=bits.device)
    for some in torch.split(bits[:whole].view(-1, _PLACES), _AT_ONCE):
        sums += some.sum(dim=0, dtype=torch.int64)
    return (*sums.tolist(), int(bits[whole:].sum(dtype=torch.int64)))


def _trainable(
    method: Method, module: nn.Module, own: dict[nn.Parameter, str], declared: Collection[str]
) -> dict[str, nn.Parameter]:
    name = type(method).__name__
    found = {key: value for key, value in module.named_parameters() if value.requires_grad}
    if bool(found) != method.trains:
        state = "trains nothing" if method.trains else "trains something, and says that it does not"
        raise MethodProblem(f"{name} {state}.", "Check which parameters require gradients after `attach`.")
    unfrozen = [own[value] for value in found.values() if value in own and own[value] not in declared]
    if unfrozen:
        raise MethodProblem(
            f"{name} leaves {unfrozen[0]!r} of the base unfrozen.", "Freeze it, or name it in `changes`."
        )
    return found


class Structure:
    """The module tree of a model as it is now: classes, attributes, children, hooks, gradient flags, configuration."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = [(module, type(module), _Attributes(vars(module))) for module in model.modules()]
        self._values = [(value, value.requires_grad, value.data) for value in model.parameters()]
        self._configs = {id(config): (config, copy.deepcopy(vars(config))) for config in _configs(model)}

    def restore(self) -> None:
        """Put all of it back; what stands in the memory of tensors is left as it is."""
        for module, kind, attributes in self._modules:
            # torch's own parametrisations swap the class of a layer.
            module.__class__ = kind
            attributes.put_into(vars(module))
        for value, flag, data in self._values:
            value.requires_grad_(flag)
            # Some methods give a parameter other memory.
            if value.data_ptr() != data.data_ptr():
                value.data = data
        for config, attributes in self._configs.values():
            vars(config).clear()
            vars(config).update(attributes)


class _Attributes:
    """The attributes of a module; its dictionaries (children, parameters, hooks) with what they hold now.

    They come back as the same dictionaries: who registered a hook can only remove it from the one it stands in.
    """

    def __init__(self, attributes: dict[str, Any]) -> None:
        self._all = dict(attributes)
        self._held = {key: copy.copy(value) for key, value in attributes.items() if isinstance(value, dict)}

    def put_into(self, attributes: dict[str, Any]) -> None:
        """Give a module its attributes back."""
        attributes.clear()
        attributes.update(self._all)
        for key, held in self._held.items():
            attributes[key].clear()
            attributes[key].update(held)


def _configs(model: nn.Module) -> list[Any]:
    names = ("config", "generation_config")
    return [vars(model)[name] for name in names if vars(model).get(name) is not None]
