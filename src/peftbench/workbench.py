"""What stays warm between runs: the base model, and the rows of a task as examples."""

from __future__ import annotations

from dataclasses import dataclass, field

from peftbench import registry
from peftbench.errors import DataProblem, ModelProblem
from peftbench.methods._method import Method, build
from peftbench.models._facts import find
from peftbench.models._load import LoadedModel, load, pick_device
from peftbench.spec import MethodRef, ModelRef, Resources, TaskRef
from peftbench.tasks._task import Item, Split, Task, items, sample


@dataclass
class Workbench:
    """Holds the base of the last run, and the examples that were read for it and those before.

    One bench serves one worker; nothing on it changes what a run computes.
    """

    _base: tuple[str, LoadedModel] | None = None
    _items: dict[str, list[Item]] = field(default_factory=dict)

    def task(self, ref: TaskRef, resources: Resources) -> Task:
        """The task of a spec, in the version the spec was made with."""
        member = registry.load("tasks", resources.task_file or ref.name)
        task: Task = member.value
        if (task.version, member.plugin) != (ref.version, ref.plugin):
            raise DataProblem(
                f"The task {ref.name} is not the one the run was planned with.", "Plan again: peftbench run"
            )
        return task

    def method(self, ref: MethodRef, resources: Resources) -> Method:
        """The method of a spec, in the version the spec was made with."""
        member = registry.load("methods", resources.method_file or ref.name)
        method = build(member.name, member.value, ref.settings)
        if (method.version, member.plugin, method.settings()) != (ref.version, ref.plugin, ref.settings):
            raise DataProblem(
                f"The method {ref.name} is not the one the run was planned with.", "Plan again: peftbench run"
            )
        return method

    def base(self, ref: ModelRef, resources: Resources) -> LoadedModel:
        """The model of a spec, loaded once for all runs in a row that use it."""
        key = f"{ref.model_dump_json()} on {resources.device}"
        if self._base is None or self._base[0] != key:
            self.drop_base()
            folder = resources.model_folder
            facts = find(folder) if folder else find(ref.name, ref.revision)
            if facts.revision != ref.revision:
                raise ModelProblem(
                    f"The files of {ref.name} are not those the run was planned with.", "Plan again: peftbench run"
                )
            self._base = (key, load(ref, facts, pick_device(resources.device)))
        return self._base[1]

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
