"""What there is to be named, and everything about one of them: members, suites, runs, this environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from peftbench import registry
from peftbench.errors import UnknownName

Rows = list[dict[str, Any]]


def catalogue(kind: str) -> Rows:
    """What can be named: tasks, methods and their variants, models, suites, bundles, executors."""
    listings: Mapping[str, Callable[[], Rows]] = {
        "tasks": lambda: [_task_row(name) for name in registry.names("tasks")],
        "methods": lambda: _members("methods"),
        "variants": _variants,
        "models": _models,
        "suites": _suites,
        "bundles": _bundles,
        "executors": lambda: _members("executors"),
    }
    if kind not in listings:
        raise UnknownName("listing", kind, listings)
    return listings[kind]()


def _members(family: Literal["methods", "executors"]) -> Rows:
    return [{"name": name, "about": registry.load(family, name).about} for name in registry.names(family)]


def _variants() -> Rows:
    from peftbench.methods._variants import variants

    return [{"name": name, "of": member.name, "about": one.about} for member, name, one in variants()]


def _models() -> Rows:
    from peftbench.models._facts import embedded_names, find

    return [{"name": name, "about": f"embedded, {find(name).model_type}"} for name in embedded_names()]


def _suites() -> Rows:
    from peftbench.suites._read import read_suite, suite_names

    return [{"name": name, "about": read_suite(name).description} for name in suite_names()]


def _bundles() -> Rows:
    from peftbench.suites._bundle import bundle_names, read_bundle

    return [{"name": name, "about": read_bundle(name)["description"]} for name in bundle_names()]


def details(kind: str, name: str, store: Path) -> dict[str, Any]:
    """Everything about one model, suite, bundle or run; tasks and methods have cards: `task_card`, `method_card`."""
    if kind == "suite":
        from peftbench.suites._read import read_suite

        return read_suite(name).model_dump(mode="json")
    if kind == "bundle":
        from peftbench.suites._bundle import read_bundle

        return read_bundle(name)
    if kind == "run":
        from peftbench.store import Store

        run_id = Store(store).find(name)
        return (Store(store).get(run_id) or Store(store).spec(run_id)).model_dump(mode="json")
    if kind == "model":
        from peftbench.models._facts import find

        facts = find(name)
        return {**asdict(facts), "parameters": facts.shapes.parameters, "roles": facts.roles}
    raise UnknownName("kind", kind, ["task", "method", "model", "suite", "bundle", "run"])


def _task_row(name: str) -> dict[str, Any]:
    member = registry.load("tasks", name)
    return {
        "name": name,
        "category": member.value.category,
        "chance": f"{member.value.chance:.1%}",
        "about": member.about,
    }


def environment() -> dict[str, str]:
    """Versions and hardware; devices are named when torch is installed."""
    from peftbench.environment import describe

    try:
        version("torch")
        import torch

        found = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
        devices, threads = ", ".join([*found, "cpu"]), torch.get_num_threads()
    except PackageNotFoundError:
        devices, threads = "cpu (torch is not installed: pip install 'peftbench[train]')", 0
    facts = describe(devices, threads).model_dump()
    return {**{key: str(value) for key, value in facts.items() if key != "packages"}, **facts["packages"]}
