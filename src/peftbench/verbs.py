"""What the command line does, as functions of values: plan, run, do, look, write a new file.

The command line only reads arguments and shows results, so a notebook can do all of it through these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

from peftbench import registry
from peftbench.errors import MissingExtra, StoreProblem, UsageError
from peftbench.executors._executor import Executor, Watcher
from peftbench.executors._worker import Event, serve
from peftbench.models._facts import gguf_file
from peftbench.plan import Plan, make_plan
from peftbench.progress import RunProgress
from peftbench.record import Record
from peftbench.spec import Resources, Suite
from peftbench.store import State, Store

QUIET = Watcher()
USUAL = Resources()


@dataclass(frozen=True)
class Outcome:
    """What came of a suite: its plan, and the records of its runs in the order of the plan."""

    plan: Plan
    records: tuple[Record, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The ids of runs without a record: the executor gave up on them, or somebody does them again right now."""
        done = {record.run_id for record in self.records}
        return tuple(run.run_id for run in self.plan.runs if run.run_id not in done)

    @property
    def failed(self) -> tuple[Record, ...]:
        """The runs that did not end well."""
        return tuple(record for record in self.records if record.failure)


@dataclass(frozen=True)
class Pending:
    """A plan held against a store: how far every run is, and which are still to be done."""

    plan: Plan
    run_ids: tuple[str, ...]
    states: Mapping[str, State]


def pending(suite: Suite, store: Store, resources: Resources, *, retry: bool = False) -> Pending:
    """What of a suite is still to be done; failed runs count when `retry` is set. Writes nothing.

    Raises:
        UsageError: the suite cannot be planned, see `make_plan`.
    """
    plan = make_plan(suite, resources)
    over: set[State] = {"done"} if retry else {"done", "failed"}
    found = {run.run_id: store.state(run.run_id) for run in plan.runs}
    return Pending(plan, tuple(run_id for run_id, state in found.items() if state not in over), found)


def run(
    suite: Suite,
    store: Store,
    resources: Resources = USUAL,
    *,
    executor: str | Executor = "inline",
    retry: bool = False,
    watcher: Watcher = QUIET,
) -> Outcome:
    """Do what is missing of a suite; called again, it continues.

    `resources` says how and where runs are done; `executor` who does them: a name, a file, or an executor. Failed runs
    are done again when `retry` is set. `watcher` is told when a run begins, moves on and ends. What comes back holds
    the plan and the record of every run.

    Raises:
        UsageError: a name is unknown, data or weights are missing, the store cannot be written; nothing was started.
    """
    return complete(pending(suite, store, resources, retry=retry), store, executor=executor, watcher=watcher)


def complete(todo: Pending, store: Store, *, executor: str | Executor = "inline", watcher: Watcher = QUIET) -> Outcome:
    """Do what is pending.

    Raises:
        UsageError: the executor is unknown, the device is not there, the store cannot be written; nothing was started.
    """
    plan = todo.plan
    if not plan.runs:
        reason = plan.set_aside[0].reason if plan.set_aside else "its tasks ask for other methods"
        raise UsageError(f"Nothing of {plan.suite.name} can be run: {reason}.", "See: peftbench plan")
    do = choose_executor(executor) if isinstance(executor, str) else executor
    if todo.run_ids:
        _require_training_stack()
        _require_unpacker(plan)
        _require_device(plan.runs[0].resources.device)
        store.check_writable()
        wanted = set(todo.run_ids)
        for planned in (planned for planned in plan.runs if planned.run_id in wanted):
            with store.claim(planned.run_id) as mine:
                if mine:
                    store.describe(planned.spec, planned.resources)
        do(store, todo.run_ids, watcher)
    found = (store.get(planned.run_id) for planned in plan.runs)
    return Outcome(plan, tuple(record for record in found if record is not None))


def choose_executor(name: str, workers: int | None = None) -> Executor:
    """The executor of a name or file; with a number of workers for one that has any, a dataclass with that field.

    Raises:
        UsageError: there is none, or it has no workers.
    """
    found = registry.load("executors", name).value
    if workers is None:
        return cast("Executor", found)
    if not dataclasses.is_dataclass(found) or "workers" not in {field.name for field in dataclasses.fields(found)}:
        raise UsageError(f"The executor {name} has no workers.", "Leave --workers away, or take --executor local.")
    return cast("Executor", dataclasses.replace(cast("Any", found), workers=workers))


def trained_adapters(folders: Sequence[str]) -> list[str]:
    """The paths of folders that hold trained adapters, as a suite names them.

    Raises:
        UsageError: one is not there, or there is nothing trained in it.
    """
    paths = [folder if "/" in folder else f"./{folder}" for folder in folders]
    for folder, path in zip(folders, paths, strict=True):
        if not registry.is_folder("methods", path):
            raise UsageError(f"There is no folder {folder}.", "Name one with adapter_config.json and its weights.")
        if registry.load("methods", path).value.kept is None:
            raise UsageError(f"{folder} holds no weights.", f"Train it: peftbench run --methods {path}")
    return paths


def serve_runs(store: Store, names: Iterable[str], tell: Callable[[Event], None]) -> bool:
    """Do runs that a store describes as they are named, one after the other; whether all ended well. See `serve`.

    Raises:
        UsageError: a run is not described, or what runs need is not installed.
    """
    _require_training_stack()
    return serve(store, names, tell)


def execute_runs(
    store: Store, run_ids: Sequence[str], *, again: bool = False, watcher: Watcher = QUIET
) -> list[Record]:
    """Do runs that a store describes, here and now; those that ended well only when `again` is set.

    Runs are named by their ids, or by the eight hex digits at the end of them.

    Raises:
        UsageError: a run is not described, or what one that is done would need again is not there; nothing was started.
    """
    wanted = list(dict.fromkeys(store.find(name) for name in run_ids))
    todo = [run_id for run_id in wanted if again or store.state(run_id) != "done"]
    if todo:
        _require_training_stack()
        _require_what_is_asked(store, [run_id for run_id in todo if store.state(run_id) == "done"])
        store.check_writable()
        from peftbench.executors.inline import inline

        inline(store, todo, watcher, again=again)
    return [record for run_id in wanted if (record := store.get(run_id)) is not None]


def states(store: Store) -> dict[str, State]:
    """Every run of a store and how far it is.

    Raises:
        StoreProblem: there is no store.
    """
    if not (store.path / "runs").is_dir():
        near = sorted(str(path.parent) for path in store.path.glob("*/runs")) if store.path.is_dir() else []
        make = f"Make one with: peftbench run quickstart --store {store.path}"
        if store.path.exists():
            other = "Name another folder with --store."
            what = "is a file, not a store" if store.path.is_file() else "holds no runs"
            raise StoreProblem(f"{store.path} {what}.", f"Did you mean {' or '.join(near[:3])}?" if near else other)
        raise StoreProblem(f"There is no store at {store.path}.", make)
    return {run_id: store.state(run_id) for run_id in store.run_ids()}


def progress(store: Store, states: Mapping[str, State]) -> dict[str, RunProgress]:
    """Where those runs are that somebody does right now, as far as it is known."""
    running = (run_id for run_id, state in states.items() if state == "running")
    return {run_id: found for run_id in running if (found := store.progress(run_id)) is not None}


def status_rows(
    store: Store, states: Mapping[str, State], progress: Mapping[str, RunProgress]
) -> list[dict[str, str | int | None]]:
    """A row for every run: `run_id`, `task`, `model`, `method`, `seed`, `state`, and where it is: `phase`, `done`,
    `total`, which are None when they are not known."""
    rows: list[dict[str, str | int | None]] = []
    for run_id, state in states.items():
        where = progress.get(run_id)
        phase, done, total = (where.phase, where.done, where.total) if where else (None, None, None)
        spec = store.spec(run_id)
        what = {"task": spec.task.label, "model": spec.model.label, "method": spec.method.label, "seed": spec.seed}
        rows.append({"run_id": run_id, **what, "state": state, "phase": phase, "done": done, "total": total})
    return rows


def new_file(kind: Literal["task", "method"], path: Path) -> tuple[Path, ...]:
    """Write a working example of a task or method, to be changed; a task without code has rows beside it.

    Raises:
        UsageError: a file exists, or its suffix is neither .py nor that of a task without code.
    """
    suffixes = (path.suffix, ".csv") if kind == "task" and path.suffix in registry.YAML else (".py",)
    if path.suffix != suffixes[0]:
        what, name = ("neither Python nor YAML", "yaml") if kind == "task" else ("not a Python file", "py")
        raise UsageError(f"{path} is {what}.", f"Name it for example: peftbench new {kind} mine.{name}")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.", "Make it first; nothing was written.")
    wanted = tuple(path.with_suffix(suffix) for suffix in suffixes)
    for one in wanted:
        if one.exists():
            raise UsageError(f"{one} exists.", "Take another name; nothing was overwritten.")
    for one in wanted:
        template = files(f"peftbench.{kind}s") / f"_template{one.suffix.replace('.yml', '.yaml')}"
        one.write_text(template.read_text(encoding="utf-8").replace("TITLE", path.stem), encoding="utf-8")
    return wanted


def _require_what_is_asked(store: Store, run_ids: Sequence[str]) -> None:
    """A run that is done once more gives up its record when it starts, so all that can be known is known before."""
    from peftbench.workbench import Workbench

    bench = Workbench()
    for run_id in run_ids:
        spec, resources = store.asked(run_id)
        _require_device(resources.device)
        bench.check(spec, resources)


def _require_device(device: str) -> None:
    """A device that is not there is a slip of the fingers, not the outcome of an experiment."""
    if device != "auto":
        from peftbench.models._load import pick_device

        pick_device(device)


def _require_unpacker(plan: Plan) -> None:
    """A packed model would be found out by each run on its own."""
    folders = {planned.resources.model_folder for planned in plan.runs} - {None}
    if find_spec("gguf") is None and any(gguf_file(Path(str(folder))) for folder in folders):
        raise MissingExtra("gguf", "gguf")


def _require_training_stack() -> None:
    """Planning and reporting do without torch; runs do not, and that is said before one is started."""
    for package in ("torch", "transformers", "peft", "tree_sitter_python"):
        if find_spec(package) is None:
            raise MissingExtra(package.replace("_", "-"), "train")
