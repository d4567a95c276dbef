"""The contracts, for the members of this package and for files of one's own.

    from peftbench.testing import check_method

    for check in check_method("./mine.py"):
        print(check.name, check.passed, check.detail, check.fix)

Nothing is printed and nothing is raised: what a member does wrong is a `Check` that did not pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench import registry
from peftbench.errors import MissingExtra, UnknownName, UsageError
from peftbench.methods._variants import variants
from peftbench.testing.check import Check
from peftbench.testing.tasks import check_task

if TYPE_CHECKING:
    from peftbench.executors._executor import Executor
    from peftbench.methods._method import Method
    from peftbench.methods._probed import Capability
    from peftbench.testing.fresh import FreshProcess

__all__ = ["Check", "check_executor", "check_member", "check_method", "check_task", "try_capabilities"]


def check_method(
    method: str | type[Method] | Method,
    settings: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    fresh: FreshProcess | None = None,
) -> tuple[Check, ...]:
    """Whether a method keeps the promises of `Method`, found out by training it on a model.

    `method` is a name, the path of a file, a class, or a method; `settings` are hyperparameters. `model` is what
    `peftbench run --models` accepts; without one, a tiny model with random weights is made. Whoever checks many
    methods passes a `FreshProcess`, so that the libraries are imported once.
    """
    from peftbench.testing.methods import examine_method

    return examine_method(method, settings or {}, model, fresh)


def try_capabilities(method: str) -> tuple[Capability, ...]:
    """What a method, by name or file, can and cannot do on tiny models, whatever it promises. Takes seconds.

    Raises:
        MissingExtra: torch, transformers or peft is not installed.
        UsageError: there is no such method, or its file cannot be imported.
    """
    for package in ("torch", "transformers", "peft"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train")
    from peftbench.testing.capabilities import examine_capabilities

    return examine_capabilities(method)


def check_executor(executor: str | Executor) -> tuple[Check, ...]:
    """Whether an executor has every run done, found out by giving it three tiny runs, one of which must fail."""
    from peftbench.testing.executors import examine_executor

    return examine_executor(executor)


def check_member(name: str) -> tuple[Check, ...]:
    """The checks of a task, method (or variant of one) or executor, by its name or the path of its file.

    Raises:
        UsageError: there is no such file or name, or the file holds no member.
    """
    family = _family(name)
    if family == "tasks":
        return check_task(name)
    return check_method(name) if family == "methods" else check_executor(name)


def _family(name: str) -> registry.Family:
    if name.endswith(".py") and Path(name).is_file():
        # Found without running the file: what its import raises is a finding of the check.
        text = Path(name).read_text(encoding="utf-8", errors="replace")
        for family, constant in registry.CONSTANT.items():
            if re.search(rf"^{constant}\b", text, re.MULTILINE):
                return family
        raise UsageError(
            f"{name} has no {', '.join(registry.CONSTANT.values())}.", "A member's file ends with one of them."
        )
    if name.endswith(registry.YAML) and Path(name).is_file():
        return "tasks"
    if name.endswith((".py", *registry.YAML)):
        kind = "method" if name.endswith(".py") else "task"
        raise UsageError(f"There is no file {name}.", f"Write one with: peftbench new {kind} {name}")
    return "methods" if registry.is_folder("methods", name) else _named(name)


def _named(name: str) -> registry.Family:
    """The family of a name, be it a member's or a variant's.

    Raises:
        UsageError: nothing has that name.
    """
    known: dict[str, registry.Family] = {
        **{variant: "methods" for _, variant, _ in variants()},
        **{member: family for family in registry.CONSTANT for member in registry.names(family)},
    }
    canonical = name.replace("-", "_").lower()
    if canonical not in known and Path(name).exists():
        raise UsageError(
            f"{name} holds no task, method or executor.",
            "Rows are told of by a task file beside them: peftbench new task mine.yaml",
        )
    if canonical not in known:
        raise UnknownName("task, method or executor", name, known)
    return known[canonical]
