"""Whether a base comes back exactly: every bit, every module, every hook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from peftbench.errors import MethodProblem
from peftbench.methods._attach import attached
from peftbench.models._batch import pad
from peftbench.models._load import LoadedModel
from peftbench.testing.subject import Lent, Subject
from peftbench.testing.toy import logits, perturb, reference_logits, toy

_PLAIN = (bool, int, float, str, tuple, type(None))
Tensors = dict[str, torch.Tensor]


def comes_back(subject: Subject) -> str | None:
    """The fault of a base that is not what it was before a method was attached, trained and detached."""
    base = subject.base()
    values, structure, answer = copies(base.model), described(base.model), reference_logits(base.model, base)
    try:
        with attached(subject.method, base) as adapter:
            perturb(adapter)
            subject.train(Lent(base, adapter), steps=2)
            logits(adapter.module, pad(toy(base.chat.end_id).prompts, base.device))
    except MethodProblem as error:
        return error.message
    return (
        _different_values(values, base.model)
        or _different_structure(structure, described(base.model))
        or _different_process(subject.process)
        or _different_answer(answer, base)
    )


def copies(model: nn.Module) -> Tensors:
    """Copies of all parameters and buffers."""
    return {name: value.detach().clone() for name, value in (*model.named_parameters(), *model.named_buffers())}


def described(model: nn.Module) -> dict[str, Any]:
    """What a model is made of: for every module its class, what it does, attributes, children and hooks."""
    found: dict[str, Any] = {
        f"{kind} of {name}": value for name, module in model.named_modules() for kind, value in _module(module)
    }
    for name, parameter in model.named_parameters():
        found[f"gradient of {name}"] = (parameter.requires_grad, parameter.grad is None, parameter.data_ptr())
    found["config"] = repr(getattr(model, "config", None))
    return found


def _module(module: nn.Module) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [("class", type(module)), ("forward", type(module).forward)]
    for key, value in vars(module).items():
        if isinstance(value, dict):
            # Children, parameters and hooks live in dictionaries; the objects in them have to be the same ones.
            rows.append((key, {name: id(item) for name, item in value.items()}))
        else:
            rows.append((key, value if isinstance(value, _PLAIN) else id(value)))
    return rows


def _different_values(before: Tensors, model: nn.Module) -> str | None:
    after = copies(model)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            return f"The base {'has gained' if name in after else 'has lost'} the tensor {name!r}."
        if before[name].dtype != after[name].dtype or not torch.equal(_bits(before[name]), _bits(after[name])):
            return f"The values of {name!r} are not those of before."
    return None


def _bits(value: torch.Tensor) -> torch.Tensor:
    """The bytes, so that 0 and -0 differ and a number that is not one equals itself."""
    return value.contiguous().view(-1).view(torch.uint8)


def _different_structure(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    for key in sorted(before.keys() | after.keys()):
        if key not in before or key not in after:
            return f"Left behind: {key}." if key in after else f"Lost: {key}."
        if before[key] != after[key]:
            return f"Changed: {key}."
    return None


def process_settings() -> dict[str, Any]:
    """Settings of the process that a method could leave changed for the runs after it."""
    hooks = nn.modules.module
    return {
        "the default dtype": torch.get_default_dtype(),
        "whether gradients are computed": torch.is_grad_enabled(),
        "the number of threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "the hooks of every module": (len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)),  # noqa: SLF001 - torch has no other way to ask
    }


def _different_process(before: Mapping[str, Any]) -> str | None:
    after = process_settings()
    changed = [key for key in before if before[key] != after[key]]
    return f"Changed for the whole process: {changed[0]}." if changed else None


def _different_answer(before: torch.Tensor, base: LoadedModel) -> str | None:
    return (
        None if torch.equal(before, reference_logits(base.model, base)) else "The base answers differently than before."
    )
