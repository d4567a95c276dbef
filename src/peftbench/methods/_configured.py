"""A method made of a configuration of the `peft` library: the fields of its class are the hyperparameters.

What a member does beside its settings (a prompt in front of the caller's tokens, ranks that move while training) is
inherited from the member with the same configuration class.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_type_hints

from pydantic import AfterValidator, TypeAdapter, ValidationError

from peftbench import registry
from peftbench.errors import MethodProblem
from peftbench.methods._method import Base, Facts
from peftbench.methods._peft import PeftMethod

# What the library fills in from the model, for prompts.
_OF_PROMPTS = {"token_dim", "num_attention_heads", "num_layers", "num_transformer_submodules"}
# What a member promises of its own settings is not promised of others.
_USUAL: Mapping[str, Any] = {"identity_at_start": False, "merges": False, "size": None, "variants": {}}
# Starts of LoRA that are taken from the weights of the base, and taken away from them.
_REWRITING = ("corda", "loftq", "lora_ga", "olora", "pissa")


@dataclass(frozen=True)
class Configured(PeftMethod):
    """A method whose hyperparameters are the fields of the configuration class `config_type`, found in `source`."""

    config_type: ClassVar[type]
    source: ClassVar[Path]

    def __post_init__(self) -> None:
        with self.in_use(), _as_value_error(self.source):
            self.configuration(self.settings())

    def configuration(self, settings: Mapping[str, Any]) -> Any:
        """The configuration in the library's own class."""
        return self.config_type(task_type="CAUSAL_LM", **settings)

    def peft_settings(self, facts: Facts) -> dict[str, Any]:
        """The hyperparameters as they are."""
        del facts
        return self.settings()

    def settings_on(self, base: Base) -> dict[str, Any]:
        """The hyperparameters as they are, whatever the member makes of the examples."""
        return self.peft_settings(base.facts)

    def trainable_parameters(self, facts: Facts) -> int | None:
        """None: only attaching tells."""
        del facts
        return None

    def changes(self, base: Base) -> Iterable[str]:
        """All of the base where the start is taken from its weights."""
        return rewritten(base, getattr(self, "init_lora_weights", None))


def rewritten(base: Base, start: object) -> list[str]:
    """Names of the base parameters that a start of LoRA may change."""
    found = isinstance(start, str) and start.startswith(_REWRITING)
    return [name for name, _ in base.model.named_parameters()] if found else []


def method_of(kind: type[Configured], config: Any, values: Mapping[str, Any]) -> type[Configured]:
    """The class of methods whose hyperparameters are the fields of a configuration, by default as it has them.

    `values` are further class attributes.

    Raises:
        MethodProblem: a field has a name that methods use for something else, or a default that is no plain data.
    """
    hints = _hints(type(config))
    member = member_of(type(config).__name__, str(getattr(config.peft_type, "value", config.peft_type)))
    fields = []
    for key, value in plain_settings(config, values["source"]).items():
        if hasattr(kind, key) or key in {"config_type", *values}:
            raise MethodProblem(
                f"{values['source']}: {type(config).__name__} has a field {key!r}, a name that methods use themselves.",
                "Give the field another name.",
            )
        fields.append((key, _checked(hints.get(key, Any), value), _default(value)))
    inherited = of_member(member, config, without=[key for key, _, _ in fields])
    usual = {**_USUAL, "learning_rate": member.learning_rate, "config_type": type(config)}
    namespace = {**usual, **inherited, **values}
    bases = (kind,) if issubclass(kind, member) else (kind, member)
    made: type[Configured] = dataclasses.make_dataclass(
        type(config).__name__, [*fields, *((key, ClassVar[Any]) for key in inherited)],
        bases=bases, namespace=namespace, frozen=True,
    )  # fmt: skip
    doc = type(config).__doc__ or ""
    # A dataclass without words has its signature there.
    made.__doc__ = "" if doc.startswith(f"{type(config).__name__}(") else doc.strip()
    return made


def of_member(member: type[PeftMethod], config: Any, without: Iterable[str] = ()) -> dict[str, Any]:
    """The hyperparameters of a member as class attributes: as a configuration has them, or by default."""
    fields = {field.name: field.default for field in dataclasses.fields(member) if field.name not in set(without)}
    return {key: getattr(config, key, default) for key, default in fields.items()}


def member_of(config_class: str, peft_type: str) -> type[PeftMethod]:
    """The class of the member with a configuration class of the library; of several the one called like the type."""
    found: dict[str, type[PeftMethod]] = {}
    for name in registry.shipped("methods"):
        value = registry.load("methods", name).value
        if getattr(value, "config_class", None) == config_class:
            found[name] = value
    return found.get(peft_type.lower(), next(iter(found.values()), PeftMethod))


def plain_settings(config: Any, source: Path) -> dict[str, Any]:
    """The fields of a configuration that are hyperparameters, as JSON has them.

    Raises:
        MethodProblem: a value is no plain data.
    """
    import peft

    kept = {field.name for field in dataclasses.fields(config) if field.init}
    kept -= {field.name for field in dataclasses.fields(peft.PeftConfig)}
    if config.is_prompt_learning:
        kept -= _OF_PROMPTS
    # How the library goes about loading; it writes it nowhere.
    kept.discard("runtime_config")
    try:
        found: dict[str, Any] = json.loads(
            json.dumps({key: getattr(config, key) for key in sorted(kept)}, default=_plain)
        )
    except (TypeError, ValueError) as error:
        raise MethodProblem(
            f"{source}: a default of {type(config).__name__} is no plain data: {error}.",
            "Use numbers, text, booleans, lists and mappings of them.",
        ) from error
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{value!r} of {type(value).__name__}")


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except (NameError, TypeError, AttributeError):
        return {}


def _checked(hint: Any, value: Any) -> Any:
    """The type of a field: any plain data that is of the hinted type, where that can be checked and the default is."""
    try:
        adapter = TypeAdapter(hint)
        adapter.validate_json(json.dumps(value), strict=True)
    except (NameError, TypeError, ValueError):
        return Any

    def check(given: Any) -> Any:
        try:
            adapter.validate_json(json.dumps(given), strict=True)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from None
        return given

    return Annotated[Any, AfterValidator(check)]


def _default(value: Any) -> Any:
    if isinstance(value, list | dict):
        return dataclasses.field(default_factory=lambda: json.loads(json.dumps(value)))
    return dataclasses.field(default=value)


@contextlib.contextmanager
def _as_value_error(source: Path) -> Iterator[None]:
    """What a configuration of anybody's raises over its settings is told like a wrong value."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{registry.line_of(error, source)}{error or type(error).__name__}") from error
