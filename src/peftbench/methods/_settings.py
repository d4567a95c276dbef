"""A method of the `peft` library with the settings of an `adapter_config.json`, to be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from peftbench.errors import MethodProblem, UnknownName, first_line
from peftbench.methods._adapter_files import CONFIG
from peftbench.methods._configured import Configured, method_of
from peftbench.methods._method import Facts
from peftbench.methods._peft import PromptMethod
from peftbench.methods._training_params import FILE, read


@dataclass(frozen=True)
class OfSettings(Configured):
    """A method as a file configures it; `left_aside` are keys of the file beside it that a suite has to say."""

    left_aside: ClassVar[tuple[str, ...]] = ()

    def caution(self, facts: Facts) -> str | None:
        """What of its training cannot be taken over."""
        del facts
        if not self.left_aside:
            return None
        return f"its {FILE} also says {', '.join(self.left_aside)}, which is left aside"


def settings_method(folder: Path, said: Mapping[str, Any]) -> tuple[type[Configured], str]:
    """The method that the adapter_config.json of a folder names, with its settings as defaults, and what it is.

    Raises:
        MethodProblem: the library has no such method or setting, or refuses a value.
    """
    source = folder / CONFIG
    cls = config_class(said, source)
    try:
        config = cls(task_type="CAUSAL_LM", **known_settings(cls, said, source))
    except (TypeError, ValueError) as error:
        raise MethodProblem(f"{source}: {first_line(error).removesuffix('.')}.", "Correct the file.") from error
    aside = read(folder / FILE).left_aside if (folder / FILE).is_file() else ()
    values = {"source": source, "left_aside": aside, **_schedule(said)}
    made = method_of(OfSettings, config, values)
    if config.is_prompt_learning and not issubclass(made, PromptMethod):
        raise MethodProblem(f"{source}: peftbench cannot train {said['peft_type']}.", "See: peftbench list methods")
    return made, f"{said['peft_type']} of the peft library, as {source.name} configures it"


def config_class(said: Mapping[str, Any], source: Path) -> Any:
    """The class of the library that a configuration is of.

    Raises:
        MethodProblem: it names no method that the library has, or is of a model that does not write.
    """
    import peft

    known = {str(kind.value): cls for kind, cls in peft.PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    name = said.get("peft_type")
    if name is None:
        raise MethodProblem(f"{source} has no peft_type.", f"Write one of: {', '.join(sorted(known))}.")
    if name not in known:
        where = f"{source}; peft {peft.__version__} is installed"
        raise UnknownName("peft_type", str(name), known, where)
    if said.get("task_type") not in (None, "CAUSAL_LM"):
        raise MethodProblem(
            f"{source} is for the task type {said['task_type']}, and models here write text.", "It has to be CAUSAL_LM."
        )
    if (said.get("tokenizer_kwargs") or {}).get("trust_remote_code"):
        raise MethodProblem(f"{source} asks for code of a hub, which would run here.", "Take trust_remote_code out.")
    return known[name]


def known_settings(cls: Any, said: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """The settings that a configuration class takes; one that it does not know may be there if it asks for nothing.

    Raises:
        UnknownName: the class does not know a setting.
    """
    import peft

    own = {field.name for field in fields(cls) if field.init}
    noted = {field.name for field in fields(peft.PeftConfig)}
    for key, value in said.items():
        if key not in own and value not in (None, False, {}, []):
            where = f"{source}; peft {peft.__version__} is installed, and {said.get('peft_version')} wrote it"
            raise UnknownName("setting", key, own - noted, where)
    return {key: value for key, value in said.items() if key in own - noted}


def _schedule(said: Mapping[str, Any]) -> dict[str, Any]:
    """AdaLoRA's schedule as shares of the steps, which are another number in each run."""
    total = said.get("total_step")
    if not total:
        return {}
    return {f"{key}_share": said.get(key, 0) / total for key in ("tinit", "tfinal")}
