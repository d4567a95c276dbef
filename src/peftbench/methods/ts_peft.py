"""TS-PEFT: another method's update is left away at tokens where it is small (Ma et al., 2025, arXiv 2511.16147)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import JsonValue

from peftbench.errors import MethodProblem
from peftbench.methods._adapter_files import refuse_others
from peftbench.methods._method import Base, Facts, Family, Method, build
from peftbench.methods._variants import named
from peftbench.methods._wrapping import Wrapping

if TYPE_CHECKING:
    import torch
    from torch import nn

    from peftbench.methods._gate import Gated

_THRESHOLDS = "thresholds.safetensors"
_HOW = "Write for example: {use: ts_peft, over: {use: lora, r: 8}}"


@dataclass(frozen=True)
class TsPeft(Wrapping):
    """A layer that the method `over` adapts puts out `b + m` for a token with `||m|| / ||b|| >= t`, and else `b`.

    b is what the layer puts out without the adapter, m what the adapter adds, t a trained threshold of each layer; it
    starts at zero, where every token has its update. `over` is a method with branches beside layers: a name, or a name
    with settings, `{use: lora, r: 8}`.

    How thresholds are learned is a reconstruction of ours, for the paper's own rule is not known to us. `sparsity`
    times the share of updates that are there, a mean over layers, is added to the loss. Backwards the gate is taken
    for a sigmoid in `||m|| / ||b|| - t`, as wide as `kernel` times the mean relative size of the layer's updates in the
    step before, and at least 0.02; its gradient goes to t alone. t is frozen for the share `warmup` of the steps, in
    which updates grow to a size that can be compared, is never decayed, and is kept from falling below zero. Its
    learning rate is `threshold_lr_ratio` times that of the adapter: Adam takes it no further than the sum of its steps,
    which at the adapter's own rate is less than most updates measure.

    A step is the same up to rounding, however its batch is split; but not where the head is adapted, which is asked for
    the last tokens alone, as many as the longest answer in a part of the batch has.

    Nothing is saved by a closed gate, for m has to be known to close it: what is measured is how many updates matter.
    Where a method changes what goes into the layer or its weight, b is computed for the gate alone.
    """

    # 2: sizes are those of the step before, and every token counts the same, however a batch is split.
    version: ClassVar[int] = 2
    # What holds here holds over LoRA; over another method it is as there.
    identity_at_start: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 3e-4
    family: ClassVar[Family | None] = "hybrid"
    quantised_base: ClassVar[bool] = True
    size: ClassVar[str | None] = "r"

    over: str | dict[str, JsonValue] = "lora"
    sparsity: float = 0.1
    warmup: float = 0.2
    kernel: float = 0.25
    threshold_lr_ratio: float = 10.0

    def __post_init__(self) -> None:
        if not self.sparsity >= 0 or not math.isfinite(self.sparsity):
            raise ValueError("sparsity must be at least 0")
        if not 0 <= self.warmup < 1:
            raise ValueError("warmup must be at least 0 and below 1")
        for name in ("kernel", "threshold_lr_ratio"):
            if not getattr(self, name) > 0 or not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be above 0")
        wrapped, over = _resolved(self.over)
        inherited = ("identity_at_start", "learning_rate", "causal", "size", "quantised_base", "quantization")
        # Past the frozen fields: what was named is now known whole, and what is said of it holds here.
        vars(self).update(over=over, _wrapped=wrapped, **{name: getattr(wrapped, name) for name in inherited})

    @property
    def wrapped(self) -> Method:
        """The method that is gated."""
        method: Method = vars(self)["_wrapped"]
        return method

    @property
    def wraps(self) -> str | None:
        """The name of that method."""
        return str(_entry(self.over)["use"])

    def trainable_parameters(self, facts: Facts) -> int | None:
        """The wrapped method's, and a threshold for each site."""
        adapter, sites = self.wrapped.trainable_parameters(facts), self.site_count(facts)
        return None if adapter is None or sites is None else adapter + sites

    def with_size(self, size: int) -> Self:
        """Over the wrapped method with another size."""
        return replace(self, over={**_entry(self.over), **self.wrapped.with_size(size).settings()})

    def without_sites(self) -> str | None:
        """None: whatever can be wrapped has sites."""
        return None

    def sites(self, module: nn.Module) -> Mapping[str, nn.Module]:
        """The wrapped method's."""
        return self.wrapped.sites(_gated(module).module)

    def attach(self, base: Base) -> nn.Module:
        """The module of the wrapped method, with a gate at each site."""
        from peftbench.methods._gate import Gated

        module = self.wrapped.attach(base)
        return Gated(module, self.wrapped.sites(module), self.kernel)

    def begin(self, module: nn.Module, steps: int) -> None:
        """Freeze the thresholds for the warm-up."""
        gated = _gated(module)
        gated.frozen_steps = math.ceil(self.warmup * steps)
        gated.thresholds.requires_grad_(gated.frozen_steps == 0)
        gated.forget()
        self.wrapped.begin(gated.module, steps)

    def optimizer(self, module: nn.Module, groups: list[dict[str, Any]]) -> torch.optim.Optimizer | None:
        """The wrapped method's own for its parameters, and AdamW for the thresholds beside it."""
        from peftbench.methods._gate import Together

        gated = _gated(module)
        parts = [(_part(group, gated, thresholds=False), _part(group, gated, thresholds=True)) for group in groups]
        own = self.wrapped.optimizer(gated.module, [adapter for adapter, _ in parts if adapter["params"]])
        if own is None:
            return None
        import torch

        return Together([own, torch.optim.AdamW([beside for _, beside in parts if beside["params"]])])

    def learning_rate_factor(self, name: str) -> float:
        """The wrapped method's for its parameters."""
        if name == "thresholds":
            return self.threshold_lr_ratio
        return self.wrapped.learning_rate_factor(name.removeprefix("module."))

    def penalty(self, module: nn.Module) -> torch.Tensor | None:
        """The share of updates that are there, and what the wrapped method adds."""
        gated = _gated(module)
        density, own = gated.density(), self.wrapped.penalty(gated.module)
        if density is None:
            return own
        return self.sparsity * density + (0.0 if own is None else own)

    def after_step(self, module: nn.Module, step: int) -> None:
        """Keep thresholds from falling below zero, and note the sizes of the step; the warm-up lets them go."""
        import torch

        gated = _gated(module)
        with torch.no_grad():
            gated.thresholds.clamp_(min=0)
        gated.thresholds.requires_grad_(step >= gated.frozen_steps)
        gated.end_step()
        self.wrapped.after_step(gated.module, step)

    def training_state(self, module: nn.Module) -> Mapping[str, Any]:
        """The wrapped method's: what a gate keeps are buffers."""
        return self.wrapped.training_state(_gated(module).module)

    def resume(self, module: nn.Module, state: Mapping[str, Any]) -> None:
        """Hand it to the wrapped method."""
        self.wrapped.resume(_gated(module).module, state)

    def merge(self, module: nn.Module, base: Base) -> nn.Module:
        """The wrapped method, merged: what a gate does to a token is in no weight.

        Raises:
            MethodProblem: a threshold is above zero.
        """
        gated = _gated(module)
        closed = int((gated.thresholds > 0).sum())
        if closed:
            raise MethodProblem(
                f"{closed} of {len(gated.thresholds)} gates can close, and a merged weight cannot.",
                "Evaluate it attached.",
            )
        gated.watch.close()
        return self.wrapped.merge(gated.module, base)

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        """The wrapped method's adapter as it is, and beside it the thresholds by the names of the sites."""
        from safetensors.torch import save_file

        gated = _gated(module)
        self.wrapped.save(gated.module, base, folder)
        values = gated.thresholds.detach().unbind()
        save_file(
            {name: value.clone() for name, value in zip(gated.watch.names, values, strict=True)}, folder / _THRESHOLDS
        )

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        """Read both.

        Raises:
            MethodProblem: the thresholds are those of other sites.
        """
        import torch
        from safetensors.torch import load_file

        gated = _gated(module)
        self.wrapped.load(gated.module, base, folder)
        sites = self.wrapped.sites(gated.module)
        if tuple(sites) != gated.watch.names:
            # A start that looked at data may have left layers out.
            gated.stand_at(sites)
        saved = load_file(folder / _THRESHOLDS)
        refuse_others(saved, gated.watch.names, folder)
        with torch.no_grad():
            gated.thresholds.copy_(torch.stack([saved[name] for name in gated.watch.names]))


def _resolved(over: str | Mapping[str, JsonValue]) -> tuple[Method, dict[str, JsonValue]]:
    """The wrapped method, and all that decides what it does: its name, its version, and every setting.

    Raises:
        UnknownName: there is no such method, or it has no such setting.
        MethodProblem: it cannot be wrapped, or has another version than is asked for.
    """
    entry = _entry(over)
    name = entry.pop("use", None)
    if not isinstance(name, str):
        raise MethodProblem("What ts_peft is to wrap has no name.", _HOW)
    asked = {key: entry.pop(key) for key in ("version", "plugin") if key in entry}
    found = named(name)
    if found.member.file is not None:
        # A record has no place for a file inside settings, and could not be run again.
        raise MethodProblem(f"ts_peft wraps methods by name, and {name} is a path.", _HOW)
    # Before it is built: what wraps itself has no end.
    why = "it is the gate itself" if found.member.value is TsPeft else None
    method = None if why else build(found.member.name, found.member.value, {**found.settings, **entry})
    why = why or (method.without_sites() if method else None)
    if method is None or why:
        raise MethodProblem(
            f"ts_peft cannot wrap {name}: {why}.", "Take one with branches beside layers: lora, dora, ia3, bottleneck."
        )
    facts: dict[str, JsonValue] = {"version": method.version}
    if found.member.plugin is not None:
        facts["plugin"] = found.member.plugin
    for key, value in asked.items():
        if facts.get(key) != value:
            raise MethodProblem(
                f"The {key} of {name} is {facts.get(key)}, not {value}.", f"Leave `{key}` away, or plan again."
            )
    return method, {"use": found.member.name, **facts, **method.settings()}


def _entry(over: str | Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {"use": over} if isinstance(over, str) else dict(over)


def _gated(module: nn.Module) -> Gated:
    from peftbench.methods._gate import Gated

    assert isinstance(module, Gated)
    return module


def _part(group: Mapping[str, Any], gated: Gated, *, thresholds: bool) -> dict[str, Any]:
    """The part of a parameter group that is the thresholds, or that is not, under the names that the parts have."""
    pairs = zip(group["params"], group["names"], strict=True)
    kept = [(value, name.removeprefix("module.")) for value, name in pairs if (value is gated.thresholds) is thresholds]
    return {**group, "params": [value for value, _ in kept], "names": [name for _, name in kept]}


METHOD = TsPeft
