"""Methods of the `peft` library: a member names its configuration class as text and writes its defaults itself.

So that listing and planning never import `peft`, which takes seconds; a contract test compares the defaults.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench.errors import MethodProblem
from peftbench.methods._method import Base, Facts, Method

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PeftMethod(Method):
    """A method that `peft` implements; `config_class` is the name of its configuration."""

    config_class: ClassVar[str]

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """Arguments of the configuration class; the hyperparameters as they are, unless a member says otherwise."""
        del facts
        return self.settings()

    def attach(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base."""
        import peft

        config = getattr(peft, self.config_class)(task_type="CAUSAL_LM", **self.peft_settings(base.facts))
        with warnings.catch_warnings():
            # The library asks transformers for something under its old name; a user can do nothing about it.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            model: nn.Module = peft.get_peft_model(base.model, config)
        # The library notes the folder the base was loaded from; its name and revision say more, anywhere.
        config.base_model_name_or_path = base.facts.name
        config.revision = base.facts.revision
        return model

    def save(self, module: nn.Module, base: Base, folder: Path) -> None:
        """The adapter folder that `PeftModel.from_pretrained` reads."""
        del base
        # Embeddings are never resized here; left to itself the library would ask the hub about them.
        peft_model(module).save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)

    def load(self, module: nn.Module, base: Base, folder: Path) -> None:
        """Read an adapter folder into a freshly attached module."""
        import peft

        del base
        state = peft.utils.load_peft_weights(str(folder), device="cpu")
        peft.set_peft_model_state_dict(peft_model(module), state)


@dataclass(frozen=True)
class TargetedPeftMethod(PeftMethod):
    """A `peft` method that is injected into layers chosen by role, or by name in peft's own terms."""

    targets: tuple[str, ...] = ("query", "key", "value", "output")
    target_modules: tuple[str, ...] | None = None

    def unfit(self, facts: Facts) -> str | None:
        """A model that lacks a role asked for."""
        missing = [] if self.target_modules else [role for role in self.targets if role not in facts.roles]
        return f"{facts.model_type} has no layers in the role {missing[0]!r}" if missing else None

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters, with roles turned into layer names."""
        settings: dict[str, Any] = {key: value for key, value in self.settings().items() if key != "targets"}
        settings["target_modules"] = list(self.target_modules or layers(facts, self.targets))
        return settings


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


def peft_model(module: nn.Module) -> Any:
    """The `PeftModel` in an attached module."""
    return getattr(module, "peft", module)
