"""What stays warm between runs: the base model, the rows of a task as examples, and those as token ids."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from peftbench import registry
from peftbench.errors import DataProblem, UsageError
from peftbench.methods._attach import Adapter, Original, attached
from peftbench.methods._method import Method, build
from peftbench.models._chat import Encoded
from peftbench.models._choosing import choose
from peftbench.models._facts import ModelFacts, find
from peftbench.models._head import too_many
from peftbench.models._layout import Layout
from peftbench.models._load import LoadedModel, load, pick_device
from peftbench.spec import MethodRef, ModelRef, Resources, RunSpec, TaskRef
from peftbench.tasks._task import Item, Split, Task, items, sample
from peftbench.training.questions import Question, Room, as_turns, token_table


@dataclass(frozen=True)
class _Base:
    """A loaded model, and what its values were then."""

    key: str
    model: LoadedModel
    original: Original


@dataclass
class Workbench:
    """Holds the base of the last run and the rows of its task.

    One bench serves one worker; nothing on it changes what a run computes. Nor is anything kept that the next run has
    no use for: it would count in the peak memory of that run.
    """

    # FLOPs that were counted, by what decides them: runs that differ in task or seed alone count once.
    flops: dict[str, int] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    _base: _Base | None = None
    _task: TaskRef | None = None
    _items: dict[tuple[Split, int | None, str | None], list[Item]] = field(default_factory=dict)
    _questions: dict[Room, dict[str, Question]] = field(default_factory=dict)

    def check(self, spec: RunSpec, resources: Resources) -> None:
        """Whether everything a run needs is there and is what it was planned with, without reading rows or weights.

        Raises:
            UsageError: something is missing, or has changed.
        """
        source = self.task(spec.task, resources).source
        at_hand = resources.data_root is not None or not spec.task.data.startswith("hub:")
        if at_hand and source.identity(resources.data_root) != spec.task.data:
            raise _changed(f"rows of {spec.task.name}")
        self.method(spec.method, resources)
        self._facts(spec.model, resources)

    def task(self, ref: TaskRef, resources: Resources) -> Task:
        """The task of a spec, in the version the spec was made with."""
        member = registry.load("tasks", resources.task_file or ref.name)
        task: Task = member.value
        if (task.version, member.plugin) != (ref.version, ref.plugin):
            raise _changed(f"task {ref.name}")
        return task.evaluated_on(ref.test)

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
        if self._base is None or self._base.key != key:
            self.drop_base()
            loaded = load(ref, self._facts(ref, resources), pick_device(resources.device))
            self._base = _Base(key, loaded, Original(loaded.model))
        return self._base.model

    def attached(
        self, method: Method, examples: Sequence[Encoded] = (), *, to_merge: bool = False
    ) -> contextlib.AbstractContextManager[Adapter]:
        """Attach a method to the base that was asked for last, for the length of a `with` block.

        `examples` are those that training begins with. With `to_merge` the adapter may be folded into the base before
        the end.

        Raises:
            MethodProblem: see `attached` of the methods.
        """
        base = self._there()
        return attached(method, base.model.showing(examples), base.original, to_merge=to_merge)

    def layout(self, spec: RunSpec, adapter: Adapter, examples: Sequence[Encoded]) -> Layout:
        """How these examples are put before an attached method in training; found out once for examples like them."""
        base = self._there().model
        assert spec.train is not None
        bf16 = spec.train.precision == "bf16"
        shapes = [list(value.shape) for value in adapter.trainable.values()]
        longest = max((len(example.answer) for example in examples), default=0)
        apart = too_many(adapter.module, spec.train.effective_batch * longest)
        key = f"{spec.base.model_dump_json()} {spec.method.model_dump_json()} {bf16} {apart} {shapes}"
        if key not in self.layouts:
            tokens = adapter.method.virtual_tokens
            with torch.autocast(base.device.type, dtype=torch.bfloat16, enabled=bf16):
                self.layouts[key] = choose(
                    adapter.module,
                    adapter.trainable.values(),
                    base.device,
                    base.facts.longest_in_row(tokens),
                    learned_beginning=tokens > 0,
                    apart=apart,
                )
        return self.layouts[key]

    def ask(self, ref: TaskRef, items: Sequence[Item], room: Room, shots: Sequence[Item] = ()) -> list[Question]:
        """Items of a task as token ids for the base that was asked for last; each is encoded once.

        Where they are asked behind examples, the next run has others: nothing is kept of those.
        """
        if shots:
            chat = self._there().model.chat.after(as_turns(shots))
            table = token_table(chat, items, room)
            return [Question(item, table, line) for line, item in enumerate(items)]
        self._turn_to(ref)
        known = self._questions.setdefault(room, {})
        new = [item for item in items if item.id not in known]
        table = token_table(self._there().model.chat, new, room)
        known.update((item.id, Question(item, table, line)) for line, item in enumerate(new))
        return [known[item.id] for item in items]

    def _there(self) -> _Base:
        assert self._base is not None, "no base was asked for"
        return self._base

    def _facts(self, ref: ModelRef, resources: Resources) -> ModelFacts:
        folder = resources.model_folder
        facts = find(folder) if folder else find(ref.name, ref.revision, resources.data_root)
        if facts.revision != ref.revision:
            raise _changed(f"model {ref.name}")
        return facts

    def drop_base(self) -> None:
        """Forget the base, after a fault that may have left it changed."""
        if self._base is not None:
            self._base.original.close()
        self._base = None
        self._questions.clear()

    def _turn_to(self, ref: TaskRef) -> None:
        """Forget the rows of any other task."""
        if ref != self._task:
            self._task = ref
            self._items.clear()
            self._questions.clear()

    def items(self, ref: TaskRef, split: Split, limit: int | None, resources: Resources) -> list[Item]:
        """The examples of a split, read once.

        Raises:
            DataProblem: a row cannot be asked, or the answers of all are hidden.
        """
        self._turn_to(ref)
        # Rows that lie elsewhere are read from there, although their content is the same: they may be gone.
        key = split, limit, resources.data_root
        if key not in self._items:
            task = self.task(ref, resources)
            rows = task.source.rows(split, resources.data_root, ref.data)
            chosen = [(number, rows[number]) for number in sample(len(rows), limit)]
            found = items(task, chosen, split)
            if not found:
                what = f"None of the {len(chosen)} rows taken from {ref.name}, {split}, has an answer that is known."
                raise DataProblem(what, "Take a split whose answers are published, or raise the limit.")
            self._items[key] = found
        return self._items[key]


def _changed(what: str) -> UsageError:
    return UsageError(f"The {what} is not what the run was planned with.", "Plan again: peftbench run")
