"""What there is to be named, and everything about one of them: members, suites, runs, this environment."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peftbench import registry
from peftbench.errors import UnknownName


def catalogue(kind: str) -> list[dict[str, Any]]:
    """What can be named: tasks, methods, models, suites, bundles, executors."""
    if kind == "models":
        from peftbench.models._facts import embedded_names, find

        return [{"name": name, "about": f"embedded, {find(name).model_type}"} for name in embedded_names()]
    if kind == "suites":
        from peftbench.suites._read import read_suite, suite_names

        return [{"name": name, "about": read_suite(name).description} for name in suite_names()]
    if kind == "bundles":
        from peftbench.suites._bundle import bundle_names, read_bundle

        return [{"name": name, "about": read_bundle(name)["description"]} for name in bundle_names()]
    if kind == "tasks":
        return [_task_row(name) for name in registry.names("tasks")]
    if kind == "methods":
        return [{"name": name, "about": registry.load("methods", name).about} for name in registry.names("methods")]
    if kind == "executors":
        return [{"name": name, "about": registry.load("executors", name).about} for name in registry.names("executors")]
    raise UnknownName("listing", kind, ["tasks", "methods", "models", "suites", "bundles", "executors"])


def details(kind: str, name: str, store: Path) -> dict[str, Any]:
    """Everything about one method, model, suite, bundle or run; a task has a card, see `task_card`."""
    if kind == "method":
        return _method(name)
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
        return {**vars(facts), "roles": facts.roles}
    raise UnknownName("kind", kind, ["task", "method", "model", "suite", "bundle", "run"])


def _method(name: str) -> dict[str, Any]:
    member = registry.load("methods", name)
    fields = ("version", "trains", "identity_at_start", "learning_rate", "reference")
    return {
        "name": member.name,
        "about": member.about,
        "what": (member.value.__doc__ or "").strip(),
        **{key: getattr(member.value, key) for key in fields},
        "hyperparameters": member.value().settings(),
    }


def _task_row(name: str) -> dict[str, Any]:
    member = registry.load("tasks", name)
    return {"name": name, "category": member.value.category, "chance": member.value.chance, "about": member.about}


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
