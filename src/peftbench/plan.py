"""From a suite to runs: everything multiplied, every default filled in, every name resolved, nothing written.

What cannot be run is set aside with its reason instead of failing later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from peftbench import registry
from peftbench.errors import BrokenCode, DataProblem, InvalidSpec, UnknownName
from peftbench.methods._broken import Broken
from peftbench.methods._method import Method, build
from peftbench.methods._variants import called, named, names
from peftbench.models._facts import ModelFacts, find
from peftbench.models._quantization import fitted, lacking
from peftbench.spec import Entry, EvalSpec, MethodRef, ModelRef, Resources, RowsSpec, RunSpec, Suite, TaskRef, TrainSpec
from peftbench.tasks._task import Split, Task, items


@dataclass(frozen=True)
class PlannedRun:
    """One run: what, and how."""

    spec: RunSpec
    resources: Resources

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.spec.run_id


@dataclass(frozen=True)
class SetAside:
    """A combination that is not run, and why."""

    task: str
    model: str
    method: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """All runs of a suite, each once, what was set aside, and how many runs were asked for more than once.

    `cautions` are sentences on methods that can be used and are not quite what somebody may take them for.
    """

    suite: Suite
    runs: tuple[PlannedRun, ...]
    set_aside: tuple[SetAside, ...]
    repeated: int = 0
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Resolved:
    """An entry of the suite with the member it names, and what of the spec it decides."""

    entry: Entry
    ref: TaskRef | ModelRef | MethodRef
    value: Task | ModelFacts | Method
    file: str | None = field(default=None)
    methods: frozenset[str] | None = field(default=None)
    absent: str | None = field(default=None)

    def wants(self, method: str) -> bool:
        """Whether a task is asked of a method; None asks it of all."""
        return self.methods is None or registry.canonical(method) in self.methods


def make_plan(suite: Suite, resources: Resources) -> Plan:
    """Multiply a suite into runs.

    Raises:
        UsageError: a name is unknown, rows or weights are missing, or a setting is wrong. Nothing has been started.
    """
    tasks = [_task(entry, resources, published=suite.metrics == "published") for entry in suite.tasks]
    models = [_model(entry, resources) for entry in suite.models]
    methods = [_method(entry) for entry in suite.methods]
    _refuse_namesakes(tasks)
    broken = [method.value.fault for method in methods if isinstance(method.value, Broken)]
    if broken and len(broken) == len(methods):
        raise broken[0]
    runs: dict[str, PlannedRun] = {}
    aside: list[SetAside] = []
    cautions: dict[str, None] = {}
    repeated = 0
    for model, task, method in product(models, tasks, methods):
        if not task.wants(method.ref.name) and not task.wants(method.entry.use):
            continue
        with registry.own_code(method.file):
            reason, train, evaluate = _settings(suite, task, model, method)
            warned = [] if reason else _cautions(model, method)
        if reason is not None:
            assert isinstance(method.ref, MethodRef)
            aside.append(SetAside(task.ref.name, model.ref.label, called(method.ref), reason))
            continue
        cautions.update(dict.fromkeys(warned))
        for spec in _specs(suite, (task, model, method), train, evaluate):
            how = resources.updated(_places(task, model, method), "resources")
            repeated += spec.run_id in runs
            runs.setdefault(spec.run_id, PlannedRun(spec, how))
    return Plan(suite, _base_after_base(runs.values()), tuple(aside), repeated, tuple(cautions))


def _base_after_base(runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
    """Runs of one base behind each other, so that it is loaded once; bases in the order they are first needed."""
    bases: dict[str, list[PlannedRun]] = {}
    for run in runs:
        bases.setdefault(run.spec.base.model_dump_json(), []).append(run)
    return tuple(run for own in bases.values() for run in own)


def _task(entry: Entry, resources: Resources, *, published: bool) -> _Resolved:
    for key in entry.own():
        if key not in {"methods", "test"}:
            raise UnknownName("option", key, ["methods", "test", "train.*", "evaluate.*"], f"task {entry.use}")
    member = registry.load("tasks", entry.use)
    asked = entry.own().get("test")
    split = member.value.published_test if asked is None and published else asked
    task: Task = member.value.evaluated_on(None if split is None else str(split))
    implied = asked is None and task is not member.value
    absent = task.source.absent(resources.data_root) if implied else None
    ref = TaskRef(
        name=member.name,
        version=task.version,
        data=absent or _looked_at(task, entry.use, resources),
        plugin=member.plugin,
        test=None if task is member.value else str(split),
        train_is_test=task.source.trains_on_test(resources.data_root) or None,
    )
    return _Resolved(entry, ref, task, member.file, _methods_of(entry), absent)


def _refuse_namesakes(tasks: Sequence[_Resolved]) -> None:
    """Tables have one column for a name."""
    named: dict[str, TaskRef] = {}
    for task in tasks:
        assert isinstance(task.ref, TaskRef)
        if named.setdefault(task.ref.label, task.ref) != task.ref:
            raise InvalidSpec(
                f"Two different tasks are called {task.ref.label}.", "Give one of the files another name."
            )


def _looked_at(task: Task, name: str, resources: Resources) -> str:
    """The identity of the rows. Those at hand are asked now, so that a missing column is found before training."""
    identity = task.source.identity(resources.data_root)
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits if resources.data_root or not identity.startswith("hub:") else ():
        if not items(task, enumerate(task.source.rows(split, resources.data_root, identity)), split):
            raise DataProblem(f"No {split} row of {name} has an answer that is known.", "Take rows with answers.")
    return identity


def _methods_of(entry: Entry) -> frozenset[str] | None:
    """The methods that a task is asked of, where its entry names some."""
    named = entry.own().get("methods")
    if named is None:
        return None
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        raise InvalidSpec(f"{entry.use}: `methods` has to be a list of names.", "Write: methods: [zero_shot, lora]")
    known = names()
    for name in map(str, named):
        if not name.endswith(".py") and "/" not in name and registry.canonical(name) not in known:
            raise UnknownName("method", name, known, f"task {entry.use}")
    return frozenset(registry.canonical(Path(str(name)).name.removesuffix(".py")) for name in named)


def _model(entry: Entry, resources: Resources) -> _Resolved:
    options = entry.own()
    known = {"dtype", "chat", "revision", "trust_remote_code", "quantization"}
    for key in options:
        if key not in known:
            raise UnknownName("option", key, known, f"model {entry.use}")
    revision = options.pop("revision", None)
    facts = find(entry.use, None if revision is None else str(revision), resources.data_root)
    ref = ModelRef.parse({"name": facts.name, "revision": facts.revision, **options}, f"model {entry.use}")
    return _Resolved(entry, ref, facts)


def _method(entry: Entry) -> _Resolved:
    try:
        found = named(entry.use)
    except BrokenCode as error:
        return _broken(entry, error)
    member = found.member
    for section, spec in (("train", TrainSpec), ("evaluate", EvalSpec)):
        own = getattr(member.value, "__dataclass_fields__", {})
        for key in entry.own().keys() & {*spec.model_fields, *spec.aliases} - {*own}:
            raise InvalidSpec(
                f"{key!r} is no hyperparameter of {entry.use}.", f"Write: {{use: {entry.use}, {section}.{key}: ...}}"
            )
    method = build(member.name, member.value, {**found.settings, **entry.own()})
    ref = MethodRef(
        name=member.name,
        version=method.version,
        settings=method.settings(),
        plugin=member.plugin,
        not_causal=None if method.causal else True,
        quantization=method.quantization,
        wraps=method.wraps,
    )
    return _Resolved(entry, ref, method, member.file)


def _broken(entry: Entry, error: BrokenCode) -> _Resolved:
    """A file that cannot be imported, which is to fail where it is run, and nowhere else."""
    path = Path(entry.use)
    method = Broken(entry.own(), error)
    ref = MethodRef(name=path.stem, version=method.version, settings=method.settings(), plugin=error.content)
    return _Resolved(entry, ref, method, str(path.absolute()))


def _settings(
    suite: Suite, task: _Resolved, model: _Resolved, method: _Resolved
) -> tuple[str | None, TrainSpec, EvalSpec]:
    """The reason to set a combination aside (or None) and its resolved settings; the method has the last word."""
    assert isinstance(task.value, Task)
    assert isinstance(model.value, ModelFacts)
    assert isinstance(method.value, Method)
    train, evaluate = suite.train, suite.evaluate
    for resolved in (task, model, method):
        train = train.updated(resolved.entry.overrides("train"), f"{resolved.entry.use}, train")
        evaluate = evaluate.updated(resolved.entry.overrides("evaluate"), f"{resolved.entry.use}, evaluate")
    if train.learning_rate is None:
        train = train.updated({"learning_rate": method.value.learning_rate}, "method default")
    if method.value.causal:
        # What does not matter to a run is no part of it.
        train = train.updated({"allow_not_causal": None}, "a causal method")
    context = model.value.context or evaluate.max_length
    if evaluate.decoding == "labels":
        # What does not matter to a run is no part of it: as long as the labels are.
        evaluate = evaluate.updated({"max_new_tokens": None}, "labels are not written")
    elif evaluate.max_new_tokens is None:
        # A short context keeps at least half of its places for the question.
        answer = min(task.value.max_new_tokens, context // 2)
        evaluate = evaluate.updated({"max_new_tokens": answer}, "task default")
    if evaluate.precision is None:
        # References that do not train are asked in the same precision as what they are compared with.
        evaluate = evaluate.updated({"precision": train.precision}, "training's own")
    assert isinstance(model.ref, ModelRef)
    facts, misfit = fitted(method.value, model.ref.quantization, model.value)
    misfit = misfit or lacking(facts) or method.value.unfit(facts)
    # What is packed cannot be added to.
    merged = (method.value.merges and facts.quantization is None and evaluate.merged is not False) or None
    evaluate = evaluate.updated({"merged": merged}, "what the method allows")
    reason = task.absent or misfit or _no_room(method.value, train, evaluate, context)
    if method.value.trains and not method.value.causal and not train.allow_not_causal:
        reason = reason or "not causal: its answers know tokens to come (train.allow_not_causal=true trains it anyhow)"
    return reason or _not_asked(task.value, method.value, train, evaluate), train, evaluate


def _not_asked(task: Task, method: Method, train: TrainSpec, evaluate: EvalSpec) -> str | None:
    """Why there is nothing to ask, or nothing to choose the answer from."""
    if evaluate.split == "validation" and not (_learns(method) and train.validation_share):
        return "there is no validation share to be evaluated on"
    if evaluate.decoding == "labels" and not task.labels:
        return "it has no labels, of which the likeliest would be taken (evaluate.decoding=labels)"
    return None


def _learns(method: Method) -> bool:
    """Whether a method looks at training rows, so that its runs differ from seed to seed."""
    return method.trains or method.shots > 0


def _cautions(model: _Resolved, method: _Resolved) -> list[str]:
    assert isinstance(model.value, ModelFacts)
    assert isinstance(method.value, Method)
    said = method.value.caution(model.value)
    return [] if said is None else [f"{method.ref.name}: {said}."]


def _no_room(method: Method, train: TrainSpec, evaluate: EvalSpec, context: int) -> str | None:
    """Why a prompt has no room beside virtual and new tokens, with the limit that takes it: the model's or our own."""
    new = evaluate.max_new_tokens or 0
    asked = (("evaluate.max_length", evaluate.max_length, new),)
    trained = (("train.max_length", train.max_length, 1),) if method.trains else ()
    for name, length, needed in (*asked, *trained):
        if min(context, length) <= method.virtual_tokens + needed:
            limit = f"a context of {context}" if context <= length else f"{name}={length}"
            return f"{needed} new and {method.virtual_tokens} virtual tokens leave no room for a prompt in {limit}"
    return None


def _specs(
    suite: Suite, resolved: tuple[_Resolved, _Resolved, _Resolved], train: TrainSpec, evaluate: EvalSpec
) -> Iterator[RunSpec]:
    task, model, ref = (one.ref for one in resolved)
    method = resolved[2].value
    assert isinstance(task, TaskRef)
    assert isinstance(model, ModelRef)
    assert isinstance(ref, MethodRef)
    assert isinstance(method, Method)
    # What does not matter to a run is no part of it.
    trained = train if method.trains else None
    drawn = not method.trains and method.shots > 0
    rows = RowsSpec(limit=train.limit, validation_share=train.validation_share) if drawn else None
    for seed in suite.seeds if _learns(method) else (None,):
        yield RunSpec(task=task, model=model, method=ref, train=trained, evaluate=evaluate, seed=seed, drawn_from=rows)


def _places(task: _Resolved, model: _Resolved, method: _Resolved) -> dict[str, str | None]:
    assert isinstance(model.value, ModelFacts)
    folder = None if model.value.mirrored else model.value.folder
    return {"model_folder": None if folder is None else str(folder), "task_file": task.file, "method_file": method.file}
