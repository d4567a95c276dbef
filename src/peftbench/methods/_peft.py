"""Methods of the `peft` library: a member names its configuration class as text and writes its defaults itself.

So that listing and planning never import `peft`, which takes seconds; a contract test compares the defaults.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.errors import MethodProblem, nearest
from peftbench.methods._adapter_files import refuse_others
from peftbench.methods._method import Base, Facts, Family, Method

if TYPE_CHECKING:
    from torch import nn

# The last names of layers that no role names, in any family: embeddings and head, and norms inside attention.
_NO_ROLE = {
    *("embed_tokens", "embed_positions", "embed_in", "wte", "wpe"),
    *("project_in", "project_out", "lm_head", "embed_out"),
}
_INNER_NORMS = {"q_norm", "k_norm", "q_layernorm", "k_layernorm"}


@dataclass(frozen=True)
class PeftMethod(Method):
    """A method that `peft` implements; `config_class` is the name of its configuration.

    `of_the_library` says whether the library alone can load what was trained.
    """

    config_class: ClassVar[str]
    of_the_library: ClassVar[bool] = True

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """Arguments of the configuration class; the hyperparameters as they are, unless a member says otherwise."""
        del facts
        return self.settings()

    def settings_on(self, base: Base) -> dict[str, Any]:
        """Arguments of the configuration class for a base: what is known before it is loaded, unless a member adds."""
        return self.peft_settings(base.facts)

    def configuration(self, settings: Mapping[str, Any]) -> Any:
        """The configuration in the library's own class."""
        import peft

        return getattr(peft, self.config_class)(task_type="CAUSAL_LM", **settings)

    def attach(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base."""
        return self.wrapped(base)

    def wrapped(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base, its configuration saying what the base is."""
        import peft

        config = self.configuration(self.settings_on(base))
        with warnings.catch_warnings():
            # The library asks transformers for something under its old name; a user can do nothing about it.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            # It looks for the widths of a linear layer in every layer, and norms have none.
            warnings.filterwarnings("ignore", "Unsupported layer type .*Norm", UserWarning)
            model: nn.Module = peft.get_peft_model(base.model, config)
        # The library notes the folder the base was loaded from; its name and revision say more, anywhere.
        config.base_model_name_or_path = base.facts.name
        config.revision = base.facts.revision
        return model

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        """The adapter folder that `PeftModel.from_pretrained` reads."""
        del base
        for config in peft_model(module).peft_config.values():
            _order_sets(config)
        # Embeddings are never resized here; left to itself the library would ask the hub about them.
        peft_model(module).save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        """Read an adapter folder into a freshly attached module.

        Raises:
            MethodProblem: it is one for another model or other settings. The library would take what fits.
        """
        import peft

        del base
        model = peft_model(module)
        state = peft.utils.load_peft_weights(str(folder), device="cpu")
        refuse_others(state, peft.get_peft_model_state_dict(model, save_embedding_layers=False), folder)
        peft.set_peft_model_state_dict(model, state)


@dataclass(frozen=True)
class TargetedPeftMethod(PeftMethod):
    """A `peft` method that is injected into layers chosen by role, or by name in peft's own terms.

    `targets` are the roles of the layers that it is put into. `target_modules` are names of layers instead.
    `transposes` says whether the library takes the layers of GPT-2, which keep their weights transposed, `norms`
    whether it takes norms.
    """

    family: ClassVar[Family | None] = "reparameterised"
    transposes: ClassVar[bool] = False
    norms: ClassVar[bool] = False

    targets: tuple[str, ...] = ("query", "key", "value", "output")
    target_modules: tuple[str, ...] | None = None

    def unsound(self) -> str | None:
        """Targets that are none."""
        if self.target_modules == ():
            return "target_modules must name a layer, or be left away"
        if not self.targets:
            return "targets must name a role"
        return "targets must be linear layers, and norm is none" if "norm" in self.targets and not self.norms else None

    def unfit(self, facts: Facts) -> str | None:
        """A model that lacks a role or a layer asked for, or whose layers the library does not take."""
        if facts.transposed and not self.transposes and "norm" not in self.targets:
            return f"peft's {self.config_class} does not take the transposed layers of {facts.model_type}"
        if self.target_modules is None:
            return missing_role(facts, self.targets)
        # A file of the library may hold a pattern, or a list for several families; what it means is for the library.
        named = self.target_modules if isinstance(self.target_modules, tuple) else ()
        return next(filter(None, (self._missing(name, facts) for name in named)), None)

    def _missing(self, name: str, facts: Facts) -> str | None:
        """A sentence on a name that no layer for this method ends with, as far as names tell; or None."""
        ends = {end for role, names in facts.roles.items() if role != "norm" or self.norms for end in names}
        known = {end.rpartition(".")[2] for end in ends} | _NO_ROLE | (_INNER_NORMS if self.norms else set())
        *path, last = name.split(".")
        if last in known and not any(part.isdecimal() and 0 < facts.shapes.layers <= int(part) for part in path):
            return None
        near = nearest(name, ends)
        return f"{facts.model_type} has no layer {name!r} that peft's {self.config_class} takes" + (
            f"; the nearest is {near!r}" if near and near != name else f"; it has {', '.join(sorted(ends))}"
        )

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, with roles turned into layer names."""
        settings: dict[str, Any] = {key: value for key, value in self.settings().items() if key != "targets"}
        settings["target_modules"] = self.target_names(facts)
        return {**settings, "fan_in_fan_out": facts.transposed} if self.transposes else settings

    def wrapped(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base, its layers as precise as those they are injected into."""
        model = super().wrapped(base)
        if base.facts.quantization is not None:
            _narrow(model, base)
        return model

    def target_names(self, facts: Facts) -> list[str]:
        """The layers of one block that the method is injected into, as suffixes of module names."""
        return list(self.target_modules or layers(facts, self.targets))

    def layer_parameters(self, inputs: int, outputs: int) -> int | None:
        """How many numbers are trained in a linear layer, by a formula; None where there is none."""
        del inputs, outputs
        return None

    def trainable_parameters(self, facts: Facts) -> int | None:
        """The sum over the targeted layers of all blocks; None where `target_modules` names others than roles do."""
        shapes = self.targeted_shapes(facts)
        counts = None if shapes is None else [self.layer_parameters(*shape) for shape in shapes]
        if counts is None or None in counts:
            return None
        return facts.shapes.layers * sum(count or 0 for count in counts)

    def targeted_shapes(self, facts: Facts) -> list[tuple[int, int]] | None:
        """Inputs and outputs of the targeted linear layers of one block, None where a target is no layer of a role."""
        names = self.target_names(facts)
        linear = facts.shapes.linear
        return [linear[name] for name in names] if all(name in linear for name in names) else None

    def without_sites(self) -> str | None:
        """None: the library keeps the layer that it wraps."""
        return None

    def sites(self, module: nn.Module) -> Mapping[str, nn.Module]:
        """The layers that the library has wrapped, by their names in the base."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        found = peft_model(module).get_base_model().named_modules()
        return {name: layer for name, layer in found if isinstance(layer, BaseTunerLayer)}

    def site_count(self, facts: Facts) -> int | None:
        """The targeted layers of all blocks; None where `target_modules` names others than roles do."""
        shapes = self.targeted_shapes(facts)
        return None if shapes is None else facts.shapes.layers * len(shapes)

    def folded(self, base: Base) -> Iterable[str]:
        """The weights and biases of the targeted layers."""
        if not self.merges:
            return ()
        targeted = modules_of(base.model, self.target_names(base.facts))
        return names_of(base.model, (value for layer in targeted for value in layer.parameters()))

    def merge(self, module: nn.Module, base: Base) -> nn.Module:
        """The base with the adapter folded into it by the library."""
        if not self.merges:
            return super().merge(module, base)
        with warnings.catch_warnings():
            # The library unties them in the configuration too, which comes back with the base.
            warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied", UserWarning)
            merged: nn.Module = peft_model(module).merge_and_unload()
        return merged


@dataclass(frozen=True)
class PromptMethod(PeftMethod):
    """A `peft` method that learns `num_virtual_tokens` positions in front of the caller's."""

    family: ClassVar[Family | None] = "prompt"
    quantised_base: ClassVar[bool] = True

    num_virtual_tokens: int = 20

    def __post_init__(self) -> None:
        if self.num_virtual_tokens < 1:
            raise ValueError("num_virtual_tokens must be at least 1")

    @property
    def virtual_tokens(self) -> int:
        """The prompt's own positions."""
        return self.num_virtual_tokens

    def unfit(self, facts: Facts) -> str | None:
        """A context that the prompt would fill."""
        if facts.context and self.num_virtual_tokens >= facts.context // 2:
            return f"{self.num_virtual_tokens} virtual tokens take over half of the context of {facts.context}"
        return None

    def prompt_width(self, facts: Facts) -> int:
        """Numbers of one virtual token, as they are saved."""
        return facts.hidden_size

    def sizes(self, facts: Facts) -> Sequence[int]:
        """Prompts that leave over half of the context; a hidden size may be as large as that of the widest layer."""
        if self.size != "num_virtual_tokens":
            return range(1, max(outputs for _, outputs in facts.shapes.linear.values()) + 1)
        return range(1, (facts.context or 2048) // 2)

    def attach(self, base: Base) -> nn.Module:
        """The base behind the prompt."""
        from peftbench.methods._virtual import VirtualTokens

        return VirtualTokens(self.wrapped(base))


@dataclass(frozen=True)
class EncodedPromptMethod(PromptMethod):
    """A prompt that an encoder writes; only what it wrote is saved, and loaded it is a plain prompt."""

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        """The adapter folder that `PeftModel.from_pretrained` reads: the prompt as it is evaluated."""
        import torch

        peft_model(module).eval()
        # With gradients an LSTM is computed by another kernel, whose last bits differ.
        with torch.no_grad():
            super().save(module, base, folder)

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        """Put the saved prompt in the place of the encoder.

        Left to itself the library would hand the prompt to the encoder as its input, and have it written once more.
        """
        model = peft_model(module)
        config = model.active_peft_config
        config.inference_mode = True
        encoder = model.prompt_encoder[model.active_adapter]
        model.prompt_encoder[model.active_adapter] = type(encoder)(config).to(encoder.embedding.weight.device)
        super().load(module, base, folder)


def _narrow(model: nn.Module, base: Base) -> None:
    """Have layers beside packed weights of a 16-bit base answer in 16 bits: some of the library answer in 32."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    dtype = base.model.get_input_embeddings().weight.dtype  # type: ignore[operator]
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer) and dtype.itemsize < 4:
            layer.register_forward_hook(lambda layer, inputs, output: output.to(dtype))


def missing_role(facts: Facts, roles: Iterable[str]) -> str | None:
    """A sentence on the first role that a model has no layers in, or None."""
    missing = [role for role in roles if role not in facts.roles]
    return f"{facts.model_type} has no layers in the role {missing[0]!r}" if missing else None


def layers(facts: Facts, roles: Iterable[str]) -> list[str]:
    """The layers of some roles, as suffixes of module names, each once.

    Raises:
        MethodProblem: the model has no such role.
    """
    names: list[str] = []
    for role in roles:
        if role not in facts.roles:
            raise MethodProblem(
                f"{facts.model_type} has no layers in the role {role!r}.", f"It has: {', '.join(facts.roles)}."
            )
        names.extend(name for name in facts.roles[role] if name not in names)
    return names


def leave_sparse_unchecked() -> None:
    """Torch warns of sparse tensors until somebody has chosen whether they are checked; this chooses what it does."""
    import torch

    checks: Any = torch.sparse.check_sparse_tensor_invariants
    if not checks.is_enabled():
        checks.disable()


def modules_of(model: nn.Module, names: Iterable[str]) -> list[nn.Module]:
    """The modules whose name ends with one of some names, as `layers` gives them."""
    ends = tuple(names)
    return [
        module
        for path, module in model.named_modules()
        if path in ends or path.endswith(tuple(f".{end}" for end in ends))
    ]


def names_of(model: nn.Module, parameters: Iterable[nn.Parameter]) -> list[str]:
    """The names of some of a model's parameters, each once, in the order of the model."""
    wanted = set(parameters)
    return [name for name, value in model.named_parameters() if value in wanted]


def _order_sets(config: Any) -> None:
    """The library keeps names in sets, whose order is another one in every process; a file is to be the same."""
    for key, value in vars(config).items():
        if isinstance(value, set):
            setattr(config, key, sorted(value))


def peft_model(module: nn.Module) -> Any:
    """The `PeftModel` in an attached module."""
    return getattr(module, "peft", module)
