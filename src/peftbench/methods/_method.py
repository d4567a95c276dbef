"""What a method is: a frozen dataclass of hyperparameters with `attach`.

    @dataclass(frozen=True)
    class Lora(Method):
        r: int = 16

        def attach(self, base): ...

    METHOD = Lora

Attaching, freezing the base, finding what is trained, and giving the base back bit for bit are done around `attach`
by the machinery in `_attach.py`, so that a method says only what is its own.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from peftbench.errors import MethodProblem, UnknownName
from peftbench.methods._adapter_files import read_trained, write_trained
from peftbench.shapes import Shapes
from peftbench.spec import Quantization, Settings

if TYPE_CHECKING:
    import torch
    from torch import nn


class Facts(Protocol):
    """What a method may know of a model before it is loaded."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def model_type(self) -> str: ...
    @property
    def context(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def transposed(self) -> bool: ...
    @property
    def shapes(self) -> Shapes: ...
    @property
    def sliding_window(self) -> int | None: ...
    @property
    def quantization(self) -> Quantization | None: ...
    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]: ...


class Example(Protocol):
    """A training example as token ids."""

    @property
    def prompt(self) -> Sequence[int]: ...
    @property
    def answer(self) -> Sequence[int]: ...


class Base(Protocol):
    """A loaded, frozen model that a method is attached to, and what it is about to be trained on."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def examples(self) -> Sequence[Example]: ...


@dataclass(frozen=True)
class Kept:
    """The size of an adapter: how many numbers were trained, and the bytes and the numbers of its files, if any.

    Files may hold what was not trained: factors that were drawn. `parameters` are None where only attaching tells.
    """

    parameters: int | None
    bytes: int | None = None
    numbers: int | None = None


# How a method goes about it, as surveys sort them: Lialin et al., 2023 (arXiv 2303.15647), Xu et al., 2023 (arXiv
# 2312.12148, section 3), Han et al., 2024 (arXiv 2403.14608). These count prompts as additive, or apart as here.
Family = Literal["additive", "prompt", "selective", "reparameterised", "hybrid", "reference"]
FAMILIES: Mapping[str, str] = {
    "additive": "new layers or vectors are put into the frozen model",
    "prompt": "trained positions, in front of the tokens or inside attention",
    "selective": "some of the model's own parameters are trained, or what is added to them one by one",
    "reparameterised": "the change of the weights is written with fewer numbers",
    "hybrid": "several of these at once",
    "reference": "no method: what the others are compared with",
}


class Variant:
    """Settings of a method that are known under a name of their own: `olora` is `lora` with another start."""

    def __init__(self, about: str, **settings: Any) -> None:
        """Say in a line what is other than in the method, and with which hyperparameters."""
        self.about, self.settings = about, settings


@dataclass(frozen=True)
class Method(ABC):
    """Base of all methods; the fields of a subclass are its hyperparameters, with the paper's defaults.

    Class attributes say what holds for every setting:

    - `version`: raised when results change;
    - `trains`: False for a reference that is only evaluated; such a run is done once, whatever the seeds, unless
      examples are drawn for it, see `shots`;
    - `identity_at_start`: attached but untrained, the model answers as the base does;
    - `learning_rate`: the default when a suite names none;
    - `family`: one of `FAMILIES`;
    - `reference`: "floor" or "ceiling" for a row that others are compared with, and that tables set apart;
    - `merges`: what was trained can be folded into the base, see `merge`;
    - `quantised_base`: it works on a base whose linear layers are packed into few bits, whatever the quantisation;
    - `quantization`: the one that its base always has, None where the model decides;
    - `causal`: an answer knows nothing of tokens to come, of padding, and of the other rows of its batch;
    - `size`: the hyperparameter that says how much is trained, see `resized`;
    - `variants`: settings that have a name of their own, by that name;
    - `kept`: the size of what was trained before, for a method that does nothing but evaluate it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    version: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    identity_at_start: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 1e-3
    family: ClassVar[Family | None] = None
    reference: ClassVar[Literal["floor", "ceiling"] | None] = None
    merges: ClassVar[bool] = False
    quantised_base: ClassVar[bool] = False
    quantization: ClassVar[Quantization | None] = None
    causal: ClassVar[bool] = True
    size: ClassVar[str | None] = None
    variants: ClassVar[Mapping[str, Variant]] = {}
    kept: ClassVar[Kept | None] = None

    @abstractmethod
    def attach(self, base: Base) -> nn.Module:
        """A module that answers the calls `base.model` answers, at the caller's positions.

        `base.model` is frozen; exactly the parameters of the returned module that require gradients are trained. The
        model may be changed in structure (layers replaced, wrapped, hooked): that is undone afterwards.
        """

    def unfit(self, facts: Facts) -> str | None:
        """Why this method cannot be used on a model, or None. Asked when a suite is planned."""
        del facts
        return None

    def unsound(self) -> str | None:
        """What is wrong with the settings whatever the model, or None. Asked when the method is built.

        For what is to hold in subclasses that have a `__post_init__` of their own.
        """
        return None

    def caution(self, facts: Facts) -> str | None:
        """What somebody should know who plans to use this method on a model, although it can be used; or None."""
        del facts
        return None

    def in_use(self) -> contextlib.AbstractContextManager[object]:
        """Entered for as long as the method is attached: for what a library has to know meanwhile."""
        return contextlib.nullcontext()

    @property
    def wraps(self) -> str | None:
        """The name of the method that this one puts something around, or None; tables show it."""
        return None

    @property
    def virtual_tokens(self) -> int:
        """Positions of the context that the method takes for itself."""
        return 0

    @property
    def shots(self) -> int:
        """Training examples that stand as earlier questions and answers in every prompt, drawn anew for each seed.

        They stand in what is asked in evaluation; where the method also trains, it trains without them.
        """
        return 0

    @property
    def looks_first(self) -> bool:
        """Whether `attach` looks at `base.examples`, the training examples in the order of the first epoch.

        There are none where an adapter is to be loaded: then it only has to make room for what `load` puts there.
        """
        return False

    def changes(self, base: Base) -> Iterable[str]:
        """Names of base parameters whose values training changes in place; they are kept aside and put back."""
        del base
        return ()

    def trainable_parameters(self, facts: Facts) -> int | None:
        """How many numbers are trained on a model, by a formula; None where only attaching tells."""
        del facts
        return None

    def without_sites(self) -> str | None:
        """Why the method has no sites, or None: layers whose output is known both with and without what it adds."""
        return "it has no branches beside layers"

    def sites(self, module: nn.Module) -> Mapping[str, nn.Module]:
        """The sites of an attached module by name: layers in a module of the `peft` library, or with its hook."""
        del module
        return {}

    def site_count(self, facts: Facts) -> int | None:
        """How many sites there are on a model; None where only attaching tells."""
        del facts
        return 0

    def sizes(self, facts: Facts) -> Sequence[int]:
        """What the hyperparameter `size` may be on a model, from the least that is trained to the most."""
        return range(1, facts.hidden_size + 1)

    def with_size(self, size: int) -> Self:
        """The same method with another `size`; a scale that goes with it keeps its proportion."""
        assert self.size is not None
        return dataclasses.replace(self, **{self.size: size})

    def resized(self, facts: Facts, trainable_parameters: int) -> Self:
        """The same method with the `size` that trains the number of parameters nearest to the one given.

        Raises:
            MethodProblem: the method has no size, or there is no formula for what it trains with these settings.
        """
        if self.size is None or self.trainable_parameters(facts) is None:
            why = "training examples decide it" if self.looks_first else "it is fixed"
            raise MethodProblem(
                f"{type(self).__name__} has no size to choose for what it trains on {facts.name}: {why}.",
                "Compare it at its own size, or choose a method with a rank, a width or a number of tokens.",
            )

        def trained(size: int) -> int:
            return self.with_size(size).trainable_parameters(facts) or 0

        sizes = self.sizes(facts)
        place = bisect.bisect_left(sizes, trainable_parameters, key=trained)
        near = sizes[max(0, place - 1) : place + 1]
        return self.with_size(min(near, key=lambda size: abs(trained(size) - trainable_parameters)))

    def begin(self, module: nn.Module, steps: int) -> None:
        """Told before the first of `steps` optimiser steps."""
        del module, steps

    def optimizer(self, module: nn.Module, groups: list[dict[str, Any]]) -> torch.optim.Optimizer | None:
        """An optimiser of the method's own in the place of AdamW.

        `groups` are parameter groups as torch takes them: `params`, their `names`, `lr` and `weight_decay`.
        """
        del module, groups
        return None

    def learning_rate_factor(self, name: str) -> float:
        """What the learning rate of a trained parameter is multiplied by."""
        del name
        return 1.0

    def penalty(self, module: nn.Module) -> torch.Tensor | None:
        """A number with a gradient, added to the loss after each forward pass in training.

        It is the same for every pass of a step, or a mean over the tokens of the pass that are no padding: then a step
        does not depend on how many examples a pass has.
        """
        del module
        return None

    def after_step(self, module: nn.Module, step: int) -> None:
        """Told after each optimiser step, counted from 1, while the gradients are still there."""
        del module, step

    def training_state(self, module: nn.Module) -> Mapping[str, Any]:
        """What the method keeps from step to step, beside what is trained, buffers, and the optimiser's own state.

        Tensors and plain data: a training that was killed goes on from it.
        """
        del module
        return {}

    def resume(self, module: nn.Module, state: Mapping[str, Any]) -> None:
        """Take up a `training_state`, whose tensors are in host memory, after `begin` and before the next step."""
        del module, state

    def folded(self, base: Base) -> Iterable[str]:
        """Names of base parameters that `merge` changes in place; they are kept aside and put back."""
        del base
        return ()

    def merge(self, module: nn.Module, base: Base) -> nn.Module:
        """Fold what was trained into the base: a module that answers as `module` does, without the adapter."""
        del module, base
        raise MethodProblem(f"{type(self).__name__} cannot be merged.", "Evaluate it attached.")

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        """Write what was trained into an empty folder, as safetensors."""
        del base
        write_trained(module, folder)

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        """Read what `save` wrote into a freshly attached module."""
        del base
        read_trained(module, folder)

    def settings(self) -> Settings:
        """All hyperparameters, as plain data."""
        fields = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}


def build(name: str, cls: Any, settings: Mapping[str, Any]) -> Method:
    """A method with some of its hyperparameters set.

    Raises:
        UnknownName: the method has no such hyperparameter.
        MethodProblem: a value is of the wrong kind or cannot be, or `cls` is not a method.
    """
    if not (isinstance(cls, type) and issubclass(cls, Method) and dataclasses.is_dataclass(cls)):
        raise MethodProblem(
            f"METHOD of {name} is not a dataclass that extends Method.", "See: peftbench new method mine.py"
        )
    known = [field.name for field in dataclasses.fields(cls)]
    declared = vars(cls).get("__annotations__", {})
    lost = [key for key, kind in declared.items() if key not in known and "ClassVar" not in str(kind)]
    if lost:
        raise MethodProblem(
            f"METHOD of {name} declares {lost[0]!r} and is no dataclass itself.",
            "Write @dataclass(frozen=True) above it.",
        )
    for key in settings:
        if key not in known:
            raise UnknownName("hyperparameter", key, known, f"method {name}")
    try:
        text = json.dumps(dict(settings), allow_nan=False)
        method: Method = TypeAdapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        raise _wrong_value(name, error) from None
    except (TypeError, ValueError) as error:
        raise MethodProblem(f"Method {name} cannot be built: {error}.", "Does it define `attach`?") from error
    if wrong := method.unsound():
        raise MethodProblem(f"Method {name}: {wrong}.", f"See: peftbench show method {name}")
    return method


def _wrong_value(name: str, error: ValidationError) -> MethodProblem:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "missing":
        return MethodProblem(
            f"Method {name}: the hyperparameter {where} has no default.", "Give it one, which a suite may change."
        )
    message = first["msg"].removeprefix("Value error, ")
    return MethodProblem(
        f"Method {name}: {where}: {message} (got {first['input']!r}).", f"See: peftbench show method {name}"
    )
