"""An adapter that was trained before: by the `peft` library, or in a run with another method. Evaluated as it is."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from peftbench import registry
from peftbench.errors import MethodProblem, first_line
from peftbench.methods._adapter_files import CONFIG, OF_LIBRARY, WEIGHTS
from peftbench.methods._configured import member_of, of_member, rewritten
from peftbench.methods._method import Base, Facts, Kept, Method, build
from peftbench.methods._peft import PeftMethod, PromptMethod
from peftbench.methods._settings import config_class
from peftbench.spec import Settings
from peftbench.store import described, recorded

if TYPE_CHECKING:
    from torch import nn

# Tensors that belong to a whole model and that the library counts as lacking in each part.
_SHARED = ("vblora_vector_bank", "prompt_encoder")
_IN_MODEL = "base_model.model."


@dataclass(frozen=True)
class Trained(Method):
    """An adapter in a folder; `trained_on` is the name of its base, and the revision, as far as they are known."""

    trains: ClassVar[bool] = False
    folder: ClassVar[Path]
    trained_on: ClassVar[tuple[str | None, str | None]]

    def caution(self, facts: Facts) -> str | None:
        """Another base, as far as names tell: a folder may hold a model of any name."""
        name, revision = self.trained_on
        if not name or revision == facts.revision:
            return None
        if Path(name).name.lower() != Path(facts.name).name.lower():
            return f"it was trained on {name}, which {facts.name} may not be"
        if revision and len(revision) == len(facts.revision):
            return f"it was trained on revision {revision} of {name}, and this one is {facts.revision}"
        return None

    def settings(self) -> Settings:
        """None: what was trained is as it is."""
        return {}

    def unfitting(self, base: Base, reason: str) -> MethodProblem:
        """That the adapter is one for another model."""
        name, _ = self.trained_on
        return MethodProblem(
            f"The adapter in {self.folder} does not fit {base.facts.name}: {reason}.",
            f"Take the model that it was trained on{f', {name}' if name else ''}.",
        )


@dataclass(frozen=True)
class OfLibrary(Trained, PeftMethod):
    """An adapter in the library's format, loaded as `PeftModel.from_pretrained` loads it."""

    def __post_init__(self) -> None:
        """Nothing is wrong with settings that were trained with."""

    def changes(self, base: Base) -> Iterable[str]:
        """Weights of the base that the adapter brings along, and all of it where the start was taken from them."""
        from safetensors import safe_open

        with safe_open(self.folder / OF_LIBRARY, framework="pt") as file:
            brought = {key.removeprefix(_IN_MODEL) for key in file.keys() if key.startswith(_IN_MODEL)}  # noqa: SIM118
        own = [name for name, _ in base.model.named_parameters() if name in brought]
        return [*own, *rewritten(base, getattr(self, "init_lora_weights", None))]

    def wrapped(self, base: Base) -> nn.Module:
        """The `PeftModel` around the base, with what was trained in it.

        Raises:
            MethodProblem: the adapter is one for another model.
        """
        import peft

        with _fitting(self, base), warnings.catch_warnings():
            # It was trained as it is: what the library thinks of that is nothing to be done about.
            warnings.simplefilter("ignore")
            config = peft.PeftConfig.from_pretrained(str(self.folder))
            config.inference_mode = True
            model: Any = peft.get_peft_model(base.model, config)
            device = str(next(base.model.parameters()).device)
            told = model.load_adapter(str(self.folder), "default", torch_device=device)
        if isinstance(self, PromptMethod):
            # The library takes what it finds.
            width = model.prompt_encoder["default"].embedding.weight.shape[1]
            if width != self.prompt_width(base.facts):
                wanted = self.prompt_width(base.facts)
                raise self.unfitting(base, f"a virtual token is {width} numbers, and has to be {wanted}")
        lost = [] if config.is_prompt_learning else list(told.unexpected_keys)
        lacking = [name for name in told.missing_keys if not any(shared in name for shared in _SHARED)]
        if lost:
            raise self.unfitting(base, f"the model has no place for {lost[0]}")
        if lacking:
            name = lacking[0].replace(".default", "")
            raise MethodProblem(
                f"The adapter in {self.folder} lacks {name}, which {base.facts.name} has a place for.",
                "Copy it again, as a whole, or take the model that it was trained on.",
            )
        return frozen(model)


@dataclass(frozen=True)
class OfRun(Trained):
    """An adapter that a run left, loaded by the `method` that saved it."""

    method: ClassVar[Method]

    def attach(self, base: Base) -> nn.Module:
        """The method attached, with what was trained in it.

        Raises:
            MethodProblem: the adapter is one for another model.
        """
        module = self.method.attach(base)
        with _fitting(self, base):
            self.method.load(module, base, self.folder)
        return frozen(module)

    def changes(self, base: Base) -> Iterable[str]:
        """What the method changes."""
        return self.method.changes(base)

    def unfit(self, facts: Facts) -> str | None:
        """Whatever is said of the method."""
        return self.method.unfit(facts)

    def caution(self, facts: Facts) -> str | None:
        """Another base, or whatever is said of the method."""
        return super().caution(facts) or self.method.caution(facts)

    def without_sites(self) -> str | None:
        """Whatever is said of the method."""
        return self.method.without_sites()

    def sites(self, module: nn.Module) -> Mapping[str, nn.Module]:
        """Those of the method."""
        return self.method.sites(module)

    def site_count(self, facts: Facts) -> int | None:
        """As many as the method has."""
        return self.method.site_count(facts)

    def in_use(self) -> AbstractContextManager[object]:
        """What the method needs."""
        return self.method.in_use()

    @property
    def virtual_tokens(self) -> int:
        """Those of the method."""
        return self.method.virtual_tokens

    @property
    def shots(self) -> int:
        """As many as the method has."""
        return self.method.shots


def adapter_of_library(folder: Path, said: Mapping[str, Any], weights: Sequence[Path]) -> tuple[type[Trained], str]:
    """The method that evaluates an adapter in the library's format, and what it is; `said` is its configuration.

    Raises:
        MethodProblem: the library has no such method, it is of another kind of model, or a file is damaged.
    """
    source = folder / CONFIG
    cls = config_class(said, source)
    member = member_of(cls.__name__, str(said["peft_type"]))
    values = {
        **{key: said.get(key, value) for key, value in of_member(member, None).items()},
        **_values(folder, weights, (said.get("base_model_name_or_path"), said.get("revision"))),
    }
    if "num_virtual_tokens" in said and not issubclass(member, PromptMethod):
        raise MethodProblem(f"{source}: peftbench cannot ask {said['peft_type']}.", "See: peftbench list methods")
    made = _made(f"Trained{member.__name__}", (OfLibrary, member), values)
    return made, f"{said['peft_type']} of the peft library, trained before"


def adapter_of_run(folder: Path, weights: Sequence[Path]) -> tuple[str, type[Trained], str]:
    """The name of the run's method with the last digits of its id, the method that evaluates it, and what that is.

    Raises:
        MethodProblem: the run is not described, or its method is another one by now.
    """
    spec, resources = described(folder.parent)
    ref = spec.method
    member = registry.load("methods", resources.method_file or ref.name)
    method = build(member.name, member.value, ref.settings)
    if (method.version, member.plugin) != (ref.version, ref.plugin):
        raise MethodProblem(
            f"The adapter in {folder} was trained by another version of {ref.name}.", "Train it again: peftbench run"
        )
    values = {**_values(folder, weights, (spec.model.name, spec.model.revision)), "method": method}
    values |= {key: getattr(method, key) for key in ("causal", "quantised_base", "quantization")}
    record = recorded(folder.parent)
    if record is not None and record.cost is not None:
        values["kept"] = replace(values["kept"], parameters=record.cost.trainable_parameters)
    name = f"{ref.name}-{spec.run_id.rpartition('--')[2]}"
    return name, _made(f"Trained{type(method).__name__}", (OfRun,), values), f"{ref.name}, trained in {spec.run_id}"


def _values(folder: Path, weights: Sequence[Path], trained_on: tuple[str | None, str | None]) -> dict[str, Any]:
    """What is known of any adapter."""
    numbers = sum(_numbers(file) for file in weights if file.name in WEIGHTS)
    kept = Kept(None, sum(file.stat().st_size for file in weights), numbers)
    return {"folder": folder, "trained_on": trained_on, "kept": kept}


def _numbers(file: Path) -> int:
    """How many numbers a safetensors file holds, from its header.

    Raises:
        MethodProblem: the file is none.
    """
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, file.stat().st_size)))
        ends = [value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"]
        if 8 + length + max(ends, default=0) != file.stat().st_size:
            raise ValueError("it ends elsewhere than its header says")
        return sum(math.prod(value["shape"]) for key, value in header.items() if key != "__metadata__")
    except OSError as error:
        raise MethodProblem(f"{file} cannot be read: {error.strerror}.", "See who may read it.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MethodProblem(f"{file} is damaged: it is no safetensors file.", "Copy it again, as a whole.") from error


def frozen(module: nn.Module) -> nn.Module:
    """The module with nothing left to train."""
    return module.eval().requires_grad_(requires_grad=False)


@contextmanager
def _fitting(adapter: Trained, base: Base) -> Iterator[None]:
    """What a library says of tensors that lack or have other shapes, and of damaged files, as a sentence."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except (FileNotFoundError, SafetensorError) as error:
        raise MethodProblem(
            f"The adapter in {adapter.folder} is damaged, or not all there: {first_line(error).rstrip('.')}.",
            "Copy it again, as a whole.",
        ) from error
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        raise adapter.unfitting(base, _reason(error)) from error


def _reason(error: BaseException) -> str:
    """What a library says first; a heading and a list of faults say it in the second line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[1] if len(lines) > 1 and lines[0].endswith(":") else first_line(error)
    return said.rstrip(".,")


def _made(name: str, bases: tuple[type, ...], values: Mapping[str, Any]) -> type[Trained]:
    """A class whose attributes are set, and that has no hyperparameters."""
    annotations = dict.fromkeys(values, ClassVar[Any])
    made: type[Trained] = dataclass(frozen=True)(type(name, bases, {**values, "__annotations__": annotations}))
    return made
