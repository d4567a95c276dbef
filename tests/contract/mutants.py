"""Methods that are broken on purpose, each in one way, and which promise each breaks.

They live in a module of their own because a fresh process has to import them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from peftbench.methods._method import Base, Facts, Method
from peftbench.methods._peft import PeftMethod
from peftbench.methods.lora import Lora
from peftbench.methods.prompt_tuning import PromptTuning
from peftbench.methods.zero_shot import ZeroShot


class Behind(nn.Module):
    """A base whose logits are changed by a trained bias over the vocabulary."""

    def __init__(self, model: nn.Module, start: float) -> None:
        super().__init__()
        vocabulary = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        self.model = model
        self.bias = nn.Parameter(torch.full((vocabulary,), start))

    def forward(self, **inputs: Any) -> Any:
        output = self.model(**inputs)
        output.logits = self.change(output.logits, inputs)
        return output

    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        return logits + self.bias


@dataclass(frozen=True)
class LogitBias(Method):
    """The method that all mutants but few are made from; nothing is wrong with it."""

    behind: ClassVar[type[Behind]] = Behind
    identity_at_start: ClassVar[bool] = True

    start: float = 0.0

    def attach(self, base: Base) -> nn.Module:
        return self.behind(base.model, self.start)


def head(base: Base) -> Any:
    return base.model.get_output_embeddings()  # type: ignore[operator]


# What a method may leave behind, because the machinery cleans up after it.


@dataclass(frozen=True)
class Untidy(LogitBias):
    """Leaves hooks, attributes, a child module, flags and settings on the base."""

    def attach(self, base: Base) -> nn.Module:
        layer: Any = head(base)
        layer.register_forward_hook(lambda module, inputs, output: output)
        layer.note = "kept"
        layer.register_buffer("count", torch.zeros(1))
        base.model.add_module("extra", nn.Linear(2, 2).requires_grad_(False))
        config: Any = base.model.config
        config.use_cache = False
        config.note = "kept"
        return super().attach(base)


@dataclass(frozen=True)
class Parametrised(Method):
    """Trains a factor on the head through torch's parametrisation, which swaps the class of the layer."""

    identity_at_start: ClassVar[bool] = True

    def attach(self, base: Base) -> nn.Module:
        layer = head(base)
        nn.utils.parametrize.register_parametrization(layer, "weight", Factor(layer.weight.shape[1]))
        return base.model


class Factor(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(width))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.factor


# settings, card, unfit, fits


@dataclass(frozen=True)
class OfNoFamily(LogitBias):
    family: ClassVar[Any] = "sorcery"


@dataclass(frozen=True)
class OfNoSize(LogitBias):
    size: ClassVar[str | None] = "spell"


@dataclass(frozen=True)
class ForgetsSetting(LogitBias):
    identity_at_start: ClassVar[bool] = False
    start: float = 0.5

    def settings(self) -> dict[str, Any]:
        return {"start": 0.25}


@dataclass(frozen=True)
class SaysFalse(LogitBias):
    def unfit(self, facts: Facts) -> str | None:
        return "" if facts.model_type == "gpt2" else None


@dataclass(frozen=True)
class FitsNothing(LogitBias):
    def unfit(self, facts: Facts) -> str | None:
        return "no model has what it needs"


# attaches, trains


@dataclass(frozen=True)
class Raises(LogitBias):
    def attach(self, base: Base) -> nn.Module:
        raise RuntimeError("no such layer")


@dataclass(frozen=True)
class TrainsNothing(LogitBias):
    def attach(self, base: Base) -> nn.Module:
        return super().attach(base).requires_grad_(requires_grad=False)


@dataclass(frozen=True)
class LeavesBaseUnfrozen(LogitBias):
    def attach(self, base: Base) -> nn.Module:
        head(base).requires_grad_(True)
        return super().attach(base)


@dataclass(frozen=True)
class TrainsWithoutSayingSo(ZeroShot):
    def attach(self, base: Base) -> nn.Module:
        return Behind(base.model, 0.0)


class RaisingBehind(Behind):
    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        return logits + self.bias[:3]


@dataclass(frozen=True)
class RaisesInForward(LogitBias):
    behind: ClassVar[type[Behind]] = RaisingBehind


# gives the base back


@dataclass(frozen=True)
class ChangesWeight(LogitBias):
    identity_at_start: ClassVar[bool] = False

    def attach(self, base: Base) -> nn.Module:
        head(base).weight.data[3, 5] += 1e-3
        return super().attach(base)


@dataclass(frozen=True)
class SwapsWeights(LogitBias):
    """Exchanges two rows, which leaves every sum over the weights as it was."""

    identity_at_start: ClassVar[bool] = False

    def attach(self, base: Base) -> nn.Module:
        weight = head(base).weight.data
        weight[[10, 12]] = weight[[12, 10]]
        return super().attach(base)


@dataclass(frozen=True)
class ChangesProcess(LogitBias):
    def attach(self, base: Base) -> nn.Module:
        torch.use_deterministic_algorithms(True, warn_only=True)
        return super().attach(base)


# gradients


class UnusedBehind(Behind):
    def __init__(self, model: nn.Module, start: float) -> None:
        super().__init__(model, start)
        self.unused = nn.Parameter(torch.zeros(4))


@dataclass(frozen=True)
class TrainsUnused(LogitBias):
    behind: ClassVar[type[Behind]] = UnusedBehind


class UnfreezingBehind(Behind):
    def forward(self, **inputs: Any) -> Any:
        head: Any = self.model.get_output_embeddings()  # type: ignore[operator]
        head.requires_grad_(self.training)
        return super().forward(**inputs)


@dataclass(frozen=True)
class UnfreezesLater(LogitBias):
    behind: ClassVar[type[Behind]] = UnfreezingBehind


# identity at start, steady, learns


@dataclass(frozen=True)
class StartsElsewhere(LogitBias):
    start: float = 0.01

    def attach(self, base: Base) -> nn.Module:
        module = super().attach(base)
        nn.init.normal_(module.bias, std=self.start)  # type: ignore[arg-type]
        return module


class DroppingBehind(Behind):
    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        return logits + nn.functional.dropout(self.bias, 0.2, training=True)


@dataclass(frozen=True)
class DropsInEvaluation(LogitBias):
    behind: ClassVar[type[Behind]] = DroppingBehind


class UphillBehind(Behind):
    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        # The value is the bias, its gradient points the other way.
        return logits + 2 * self.bias.detach() - self.bias


@dataclass(frozen=True)
class LearnsUphill(LogitBias):
    behind: ClassVar[type[Behind]] = UphillBehind


# causal, padding, calls, context


class PeekingBehind(Behind):
    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        ids = inputs["input_ids"]
        mask = inputs["attention_mask"][:, -ids.shape[1] :]
        coming = torch.zeros(*ids.shape, self.bias.shape[0])
        known = nn.functional.one_hot(ids[:, 1:], self.bias.shape[0]) * mask[:, 1:, None]
        coming[:, :-1] = 0.01 * known
        return logits + self.bias + coming[:, -logits.shape[1] :]


@dataclass(frozen=True)
class Peeks(LogitBias):
    identity_at_start: ClassVar[bool] = False
    behind: ClassVar[type[Behind]] = PeekingBehind


@dataclass(frozen=True)
class ClaimsToPeek(LogitBias):
    """Says that it knows tokens to come, and does not."""

    causal: ClassVar[bool] = False


class CountingBehind(Behind):
    def forward(self, **inputs: Any) -> Any:
        ids, cache = inputs["input_ids"], inputs.get("past_key_values")
        start = 0 if cache is None else cache.get_seq_length()
        positions = torch.arange(start, start + ids.shape[1]).expand_as(ids)
        return super().forward(**{**inputs, "position_ids": positions})


@dataclass(frozen=True)
class CountsPadding(LogitBias):
    """Positions that count padding: seen on a model with learned positions."""

    identity_at_start: ClassVar[bool] = False
    behind: ClassVar[type[Behind]] = CountingBehind


class MixingBehind(Behind):
    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        return logits + self.bias + 0.1 * logits.mean(dim=0, keepdim=True)


@dataclass(frozen=True)
class MixesRows(LogitBias):
    identity_at_start: ClassVar[bool] = False
    behind: ClassVar[type[Behind]] = MixingBehind


@dataclass(frozen=True)
class StockPromptTuning(PromptTuning):
    """The module of the library as it is."""

    def attach(self, base: Base) -> nn.Module:
        return PeftMethod.attach(self, base)


class WholeBehind(Behind):
    def forward(self, **inputs: Any) -> Any:
        inputs.pop("logits_to_keep", None)
        return super().forward(**inputs)


@dataclass(frozen=True)
class KeepsAllLogits(LogitBias):
    behind: ClassVar[type[Behind]] = WholeBehind


@dataclass(frozen=True)
class HidesItsTokens(PromptTuning):
    @property
    def virtual_tokens(self) -> int:
        return 0


# saves, reloads, stock peft


@dataclass(frozen=True)
class SavesPickle(LogitBias):
    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        super().save(module, base, folder)
        torch.save({}, folder / "state.pt")


class PairBehind(Behind):
    def __init__(self, model: nn.Module, start: float) -> None:
        super().__init__(model, start)
        self.shift = nn.Parameter(torch.zeros(1))

    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        return logits + self.bias * (1 + self.shift)


@dataclass(frozen=True)
class SavesTooLittle(LogitBias):
    """Loses one of two tensors, and does not miss it when it is loaded."""

    behind: ClassVar[type[Behind]] = PairBehind

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        save_file({"bias": module.bias.detach()}, folder / "adapter.safetensors")  # type: ignore[operator]

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        module.load_state_dict(load_file(folder / "adapter.safetensors"), strict=False)


@dataclass(frozen=True)
class SavesOtherNames(LogitBias):
    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        save_file({"other": torch.zeros(1)}, folder / "adapter.safetensors")


@dataclass(frozen=True)
class LoadsNothing(LogitBias):
    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        del module, base, folder


@dataclass(frozen=True)
class LoadsNoise(LogitBias):
    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        super().load(module, base, folder)
        with torch.no_grad():
            module.bias.add_(0.01 * torch.randn_like(module.bias))  # type: ignore[arg-type, operator]


class DrawingBehind(Behind):
    def __init__(self, model: nn.Module, start: float) -> None:
        super().__init__(model, start)
        self.direction = nn.Buffer(torch.randn_like(self.bias))

    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        return logits + self.bias * self.direction


@dataclass(frozen=True)
class ForgetsFrozenDraw(LogitBias):
    """What is drawn and not trained is not saved, and drawn anew when the adapter is loaded."""

    behind: ClassVar[type[Behind]] = DrawingBehind


@dataclass(frozen=True)
class ScalesBehindTheConfig(Lora):
    def attach(self, base: Base) -> nn.Module:
        module = super().attach(base)
        for layer in module.modules():
            scaling = getattr(layer, "scaling", None)
            if isinstance(scaling, dict):
                scaling.update({name: value * 3 for name, value in scaling.items()})
        return module


# counts, merges


@dataclass(frozen=True)
class Miscounts(LogitBias):
    def trainable_parameters(self, facts: Facts) -> int:
        return facts.shapes.vocabulary - 1


@dataclass(frozen=True)
class MergesNothing(LogitBias):
    merges: ClassVar[bool] = True

    def merge(self, module: nn.Module, base: Base) -> nn.Module:
        return base.model


@dataclass(frozen=True)
class MergesHalf(Lora):
    def merge(self, module: nn.Module, base: Base) -> nn.Module:
        for name, value in module.named_parameters():
            if "lora_B" in name:
                value.data *= 0.999
        return super().merge(module, base)


@dataclass(frozen=True)
class MergesInSecret(Lora):
    """Does not say which weights of the base merging changes."""

    def folded(self, base: Base) -> Iterable[str]:
        return ()


@dataclass(frozen=True)
class KeepsTheAdapter(LogitBias):
    merges: ClassVar[bool] = True

    def merge(self, module: nn.Module, base: Base) -> nn.Module:
        return module


# repeatable, portions, checkpoint


@dataclass(frozen=True)
class DrawsUnseeded(LogitBias):
    identity_at_start: ClassVar[bool] = False

    def attach(self, base: Base) -> nn.Module:
        module = super().attach(base)
        generator = torch.Generator()
        generator.seed()
        nn.init.normal_(module.bias, std=0.1, generator=generator)  # type: ignore[arg-type]
        return module


class RowCountingBehind(Behind):
    rows = 0

    def forward(self, **inputs: Any) -> Any:
        self.rows = len(inputs["input_ids"])
        return super().forward(**inputs)


@dataclass(frozen=True)
class AddsForEveryRow(LogitBias):
    """Its penalty is a sum over rows, so that a batch in halves has half of it."""

    behind: ClassVar[type[Behind]] = RowCountingBehind

    def penalty(self, module: nn.Module) -> torch.Tensor:
        assert isinstance(module, RowCountingBehind)
        return 0.01 * module.rows * module.bias.square().sum()


class RememberingBehind(Behind):
    """Adds a running sum of what it was trained on, which is no parameter."""

    def __init__(self, model: nn.Module, start: float) -> None:
        super().__init__(model, start)
        self.memory = nn.Buffer(torch.zeros_like(self.bias))

    def change(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        if self.training:
            self.memory.add_(0.01 * self.bias.detach())
        return logits + self.bias + self.memory


@dataclass(frozen=True)
class RemembersOutsideParameters(LogitBias):
    """The memory is saved and loaded, but not part of a checkpoint."""

    behind: ClassVar[type[Behind]] = RememberingBehind

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        save_file({"bias": module.bias.detach(), "memory": module.memory}, folder / "adapter.safetensors")  # type: ignore[dict-item, operator]

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        module.load_state_dict(load_file(folder / "adapter.safetensors"), strict=False)


@dataclass(frozen=True)
class ReadsPackedWeights(LogitBias):
    """The bias starts at a sum over weights of the base, whatever stands in their memory."""

    identity_at_start: ClassVar[bool] = False
    quantised_base: ClassVar[bool] = True

    def attach(self, base: Base) -> nn.Module:
        module = super().attach(base)
        weight: Any = base.model.get_parameter("model.layers.0.self_attn.q_proj.weight")
        with torch.no_grad():
            module.bias.add_(weight.float().abs().mean())  # type: ignore[operator]
            module.bias[::2] *= 2  # type: ignore[index, operator]
        return module


@dataclass(frozen=True)
class Mutant:
    """A method and the checks that must fail on it, and no other."""

    method: type[Method]
    breaks: frozenset[str]
    model: str = "llama"


def mutants(breaks: str, *methods: type[Method], model: str = "llama") -> Iterable[Mutant]:
    return (Mutant(method, frozenset(breaks.split(", ")), model) for method in methods)


HARMLESS: tuple[type[Method], ...] = (LogitBias, Untidy, Parametrised)

MUTANTS: tuple[Mutant, ...] = (
    *mutants("settings", ForgetsSetting),
    *mutants("card", OfNoFamily, OfNoSize),
    *mutants("unfit", SaysFalse),
    *mutants("fits", FitsNothing),
    *mutants("attaches", Raises, TrainsNothing, LeavesBaseUnfrozen, TrainsWithoutSayingSo),
    *mutants("counts", Miscounts),
    *mutants("trains", RaisesInForward),
    *mutants("gives the base back", ChangesWeight, SwapsWeights, ChangesProcess),
    *mutants("gradients", TrainsUnused, UnfreezesLater),
    *mutants("identity at start", StartsElsewhere),
    *mutants("steady", DropsInEvaluation),
    *mutants("learns", LearnsUphill),
    *mutants("causal", Peeks, ClaimsToPeek),
    # Which rows are beside a row is chosen with the portions.
    *mutants("padding, portions", MixesRows),
    *mutants("padding", CountsPadding, model="gpt2"),
    # A prompt that is put in front of every call is in the way of a cache, hence of what is generated with one.
    *mutants("padding, portions, calls, stock peft", StockPromptTuning),
    *mutants("calls", KeepsAllLogits),
    *mutants("context", HidesItsTokens),
    *mutants("saves", SavesPickle),
    *mutants("reloads", SavesTooLittle, SavesOtherNames, LoadsNothing, LoadsNoise, ForgetsFrozenDraw),
    *mutants("stock peft", ScalesBehindTheConfig),
    *mutants("merges", MergesNothing, MergesHalf, MergesInSecret, KeepsTheAdapter),
    *mutants("quantised base", ReadsPackedWeights),
    *mutants("repeatable", DrawsUnseeded),
    *mutants("portions", AddsForEveryRow),
    *mutants("checkpoint", RemembersOutsideParameters),
)
