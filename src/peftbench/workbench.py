"""What stays warm between runs: the base model, and the rows of a task as examples."""

from __future__ import annotations

from dataclasses import dataclass, field

from peftbench import registry
from peftbench.errors import UsageError
from peftbench.methods._method import Method, build
from peftbench.models._facts import ModelFacts, find
from peftbench.models._load import LoadedModel, load, pick_device
from peftbench.spec import MethodRef, ModelRef, Resources, RunSpec, TaskRef
from peftbench.tasks._task import Item, Split, Task, items, sample


@dataclass
class Workbench:
    """Holds the base of the last run, and the examples that were read for it and those before.

    One bench serves one worker; nothing on it changes what a run computes.
    """

    _base: tuple[str, LoadedModel] | None = None
    # FLOPs that were counted, by what decides them: runs that differ in task or seed alone count once.
    flops: dict[str, int] = field(default_factory=dict)
    _items: dict[str, list[Item]] = field(default_factory=dict)

    def check(self, spec: RunSpec, resources: Resources) -> None:
        """Whether everything a run needs is there and is what it was planned with, without reading rows or weights.

        Raises:
            UsageError: something is missing, or has changed.
        """
        source = self.task(spec.task, resources).source
        if not spec.task.data.startswith("hub:") and source.identity(resources.data_root) != spec.task.data:
            raise _changed(f"rows of {spec.task.name}")
        self.method(spec.method, resources)
        self._facts(spec.model, resources)

    def task(self, ref: TaskRef, resources: Resources) -> Task:
        """The task of a spec, in the version the spec was made with."""
        member = registry.load("tasks", resources.task_file or ref.name)
        task: Task = member.value
        if (task.version, member.plugin) != (ref.version, ref.plugin):
            raise _changed(f"task {ref.name}")
        return task

    def method(self, ref: MethodRef, resources: Resources) -> Method:
        """The method of a spec, in the version the spec was made with."""
        member = registry.load("methods", resources.method_file or ref.name)
        method = build(member.name, member.value, ref.settings)
        if (method.version, member.plugin, method.settings()) != (ref.version, ref.plugin, ref.settings):
            raise _changed(f"method {ref.name}")
        return method

    def base(self, ref: ModelRef, resources: Resources) -> LoadedModel:
        """The model of a spec, loaded once for all runs in a row that use it."""
        key = f"{ref.model_dump_json()} on {resources.device}"
        if self._base is None or self._base[0] != key:
            self.drop_base()
            facts = self._facts(ref, resources)
            self._base = (key, load(ref, facts, pick_device(resources.device)))
        return self._base[1]

    def _facts(self, ref: ModelRef, resources: Resources) -> ModelFacts:
        folder = resources.model_folder
        facts = find(folder) if folder else find(ref.name, ref.revision)
        if facts.revision != ref.revision:
            raise _changed(f"model {ref.name}")
        return facts

    def drop_base(self) -> None:
        """Forget the base, after a fault that may have left it changed."""
        self._base = None

    def items(self, ref: TaskRef, split: Split, limit: int | None, resources: Resources) -> list[Item]:
        """The examples of a split, read once."""
        key = f"{ref.model_dump_json()} {split} {limit} {resources.data_root}"
        if key not in self._items:
            task = self.task(ref, resources)
            rows = task.source.rows(split, resources.data_root, ref.data)
            self._items[key] = items(task, [(number, rows[number]) for number in sample(len(rows), limit)], split)
        return self._items[key]


def _changed(what: str) -> UsageError:
    return UsageError(f"The {what} is not what the run was planned with.", "Plan again: peftbench run")
