"""A tuner of somebody's own in the layout of PEFT-Factory: `config.py` and `model.py` in a folder, used as they are.

Files import their siblings as `from .config import X`, as `from config import X`, or by path. The library knows the
tuner only while it is used, so that nothing of it is there for another method.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from peftbench import registry
from peftbench.errors import MethodProblem
from peftbench.methods._configured import Configured, method_of

_LACKING = object()


@dataclass
class Registration:
    """What the library is told of a tuner: the names of its types, its two classes, and its prefix.

    It is told when the first use begins and forgets when the last one ends; uses may overlap.
    """

    types: tuple[str, ...]
    config: type | None = None
    model: Any = None
    peft_type: str = ""
    _uses: int = 0
    _undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """The library knows the tuner for the length of a `with` block."""
        if not self._uses:
            with contextlib.ExitStack() as undo:
                self._tell(undo)
                self._undo = undo.pop_all()
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1
            if not self._uses:
                self._undo.close()

    def _tell(self, undo: contextlib.ExitStack) -> None:
        """Tell the library; what `undo` holds then makes it forget, however far this comes."""
        from peft import mapping
        from peft.utils import PeftType

        for name in self.types:
            if name not in PeftType.__members__:
                undo.callback(_add_member(PeftType, name))
        if self.config is not None:
            told = {
                "CONFIG": self.config,
                "TUNER": self.model,
                "PREFIX": getattr(self.model, "prefix", f"{self.peft_type.lower()}_"),
            }
            for kind, value in told.items():
                undo.callback(_entered(getattr(mapping, f"PEFT_TYPE_TO_{kind}_MAPPING"), self.peft_type, value))


@dataclass(frozen=True)
class OfTuner(Configured):
    """A method that somebody's own tuner implements."""

    of_the_library: ClassVar[bool] = False
    registration: ClassVar[Registration]

    def in_use(self) -> contextlib.AbstractContextManager[object]:
        """The library knows the tuner while it is attached."""
        return self.registration.used()


def tuner_method(folder: Path, content: str) -> tuple[type[Configured], str]:
    """The method of a tuner's folder, and what it says it is; `content` is the hash of its files.

    Raises:
        UsageError: the files cannot be imported, lack their classes or have several, or have hyperparameters that
            are no plain data.
    """
    import peft
    from peft.tuners.tuners_utils import BaseTuner

    registration = Registration(_named_types(folder))
    with registration.used():
        config_file, model_file = _imported(folder, content)
        config_type = _only(config_file, peft.PeftConfig, folder / "config.py")
        model = _only(model_file, BaseTuner, folder / "model.py")
        try:
            config = config_type()
        except Exception as error:
            file, line = registry.place_in(error, folder)
            where = f"{file}, line {line}" if line else f"{folder / 'config.py'}"
            raise MethodProblem(
                f"{where}: {config_type.__name__}() cannot be made: {type(error).__name__}: {error}.",
                "Give every field a default, and name the folder as its type in PeftType.",
            ) from error
        if config.peft_type is None:
            raise MethodProblem(
                f"{folder / 'config.py'}, line {_line(config_type)}: {config_type.__name__} sets no peft_type.",
                f"Write in its __post_init__: self.peft_type = PeftType.{registration.types[0]}",
            )
    peft_type = getattr(config.peft_type, "value", config.peft_type)
    known = Registration(registration.types, config_type, _called_as_now(model), peft_type)
    about = next((text for one in (model_file, config_file, model) if (text := inspect.getdoc(one))), "")
    method = method_of(OfTuner, config, {"source": folder, "registration": known})
    return method, about.partition("\n")[0] or f"the tuner {model.__name__}"


def _called_as_now(model: Any) -> Any:
    """The tuner, or one that also takes what the library has been handing to `set_adapter` since version 0.18."""
    taken = inspect.signature(model.set_adapter).parameters
    if "inference_mode" in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        return model

    def set_adapter(self: Any, adapter_name: Any, inference_mode: bool = False) -> None:  # noqa: FBT001 - as it is there
        del inference_mode
        model.set_adapter(self, adapter_name)

    return type(model.__name__, (model,), {"set_adapter": set_adapter, "__module__": model.__module__})


def _named_types(folder: Path) -> tuple[str, ...]:
    """The type that the layout makes of the name of the folder, and those that its files take to be there."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.py"))]
    named = [name for text in texts for name in re.findall(r"\bPeftType\.([A-Z][A-Z0-9_]*)\b", text)]
    return tuple(dict.fromkeys([re.sub(r"\W", "_", folder.name).upper(), *named]))


def _add_member(kind: Any, name: str) -> Any:
    """Add a member to an enumeration of texts; what comes back takes it away again."""
    member = str.__new__(kind, name)
    member._name_, member._value_ = name, name
    kind._member_names_.append(name)
    kind._member_map_[name] = member
    kind._value2member_map_[name] = member
    type.__setattr__(kind, name, member)

    def remove() -> None:
        type.__delattr__(kind, name)
        kind._member_names_.remove(name)
        del kind._member_map_[name], kind._value2member_map_[name]

    return remove


def _entered(known: dict[Any, Any], key: str, value: Any) -> Callable[[], object]:
    """Enter a value into a mapping; what comes back puts back what was there."""
    before = known.get(key, _LACKING)
    known[key] = value
    return partial(known.pop, key) if before is _LACKING else partial(known.__setitem__, key, before)


def _only(module: ModuleType, base: type, file: Path) -> Any:
    """The one class in a file that extends another.

    Raises:
        MethodProblem: there is none, or several.
    """
    found = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and name[0] != "_"
    ]
    if not found:
        raise MethodProblem(
            f"{file} holds no subclass of peft's {base.__name__}.", f"Write: class Mine({base.__name__}): ..."
        )
    if len(found) > 1:
        raise MethodProblem(
            f"{file}, line {_line(found[1])}: {found[1].__name__} is a second subclass of peft's {base.__name__}, "
            f"beside {found[0].__name__}.",
            "Keep one, or begin the name of the other with an underscore.",
        )
    return found[0]


def _line(cls: type) -> int | str:
    try:
        return inspect.getsourcelines(cls)[1]
    except OSError:
        return "?"


def _imported(folder: Path, content: str) -> tuple[ModuleType, ModuleType]:
    """`config.py` and `model.py` of a folder as modules of a package that is called like no other.

    Raises:
        UsageError: a file cannot be imported.
    """
    package = f"peftbench_folder_{registry.short_hash(str(folder))}_{content}"
    if f"{package}.model" not in sys.modules:
        init = folder / "__init__.py"
        if init.is_file():
            spec = importlib.util.spec_from_file_location(package, init, submodule_search_locations=[str(folder)])
        else:
            spec = ModuleSpec(package, None, is_package=True)
            spec.submodule_search_locations = [str(folder)]
        assert spec is not None
        sys.modules[package] = module = importlib.util.module_from_spec(spec)
        try:
            with _siblings(folder, package):
                if spec.loader is not None:
                    spec.loader.exec_module(module)
                for name in ("config", "model"):
                    importlib.import_module(f"{package}.{name}")
        except (Exception, SystemExit) as error:
            for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
                del sys.modules[name]
            broken = registry.broken_code(error, folder)
            broken.content = content
            raise broken from error
    return sys.modules[f"{package}.config"], sys.modules[f"{package}.model"]


@contextlib.contextmanager
def _siblings(folder: Path, package: str) -> Iterator[None]:
    """The files of a folder find each other by bare names, as when they lie on the path; and nobody else does."""
    bare = {path.stem for path in folder.glob("*.py")} - set(sys.stdlib_module_names) - {"__init__"}
    hidden = {name: sys.modules.pop(name) for name in bare if name in sys.modules}
    path, finder = list(sys.path), _Siblings(bare, package)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.path[:] = path
        for name in bare:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


@dataclass(frozen=True)
class _Siblings(MetaPathFinder, Loader):
    """Finds `config` as `package.config`: one module under two names."""

    bare: set[str]
    package: str

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A spec whose module is the one of the package."""
        del path, target
        return ModuleSpec(name, self) if name in self.bare else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module of the package, imported if need be."""
        module = importlib.import_module(f"{self.package}.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to be done but to give the module back its own spec."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state
