"""What a person sees in the terminal: progress while runs are done, and tables of what there is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from peftbench.report._format import plural, size
from peftbench.scoring.variants import natural, variants
from peftbench.spec import NOT_CAUSAL_NOTE, TRAIN_IS_TEST_NOTE

if TYPE_CHECKING:
    from peftbench.executors._executor import Watcher
    from peftbench.fetch import Fetched
    from peftbench.plan import Plan
    from peftbench.progress import RunProgress
    from peftbench.record import Record
    from peftbench.spec import RunSpec
    from peftbench.store import State, Store

# Tasks that are named where several are set aside for one reason.
_NAMED = 3
_COMMIT = re.compile(r"@([0-9a-f]{8})[0-9a-f]{32}$")
_MARKS: Mapping[State, str] = {
    "done": "[green]done[/]",
    "failed": "[red]failed[/]",
    "running": "[cyan]running[/]",
    "started": "[yellow]interrupted[/]",
    "missing": "to do",
}


def run_names(specs: Mapping[str, RunSpec]) -> dict[str, str]:
    """What a person calls each run: `sst2 × lora r=8, seed 1`; the model stands there when there are several."""
    several = len({spec.model.label for spec in specs.values()}) > 1
    names: dict[str, str] = {}
    for (run_id, spec), method in zip(specs.items(), variants(list(specs.values())), strict=True):
        parts = [spec.task.label, *([spec.model.label] if several else []), method]
        names[run_id] = " × ".join(parts) + ("" if spec.seed is None else f", seed {spec.seed}")
    return names


class Display:
    """Progress on stderr: in a terminal a bar for every run at work, elsewhere a line for every run that is over."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._console = Console(stderr=True)
        self._names, self._total, self._begun, self._count = names, len(names), 0, 0
        name = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
        phase = TextColumn("{task.fields[phase]}", table_column=Column(no_wrap=True, min_width=10), markup=False)
        count = TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True, min_width=5, justify="right"))
        columns = (name, phase, BarColumn(bar_width=12), count, TimeElapsedColumn())
        shown = self._console.is_terminal and bool(names)
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not shown, expand=True)
        self._loading: TaskID | None = self._bar.add_task(
            "loading torch and transformers", total=None, phase="", count=""
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def watcher(self) -> Watcher:
        """The three things an executor tells."""
        from peftbench.executors._executor import Watcher

        return Watcher(self._begin, self._progress, self._done)

    def _begin(self, run_id: str) -> None:
        if self._loading is not None:
            self._bar.remove_task(self._loading)
            self._loading = None
        self._begun += 1
        text = f"({self._begun}/{self._total}) {self._names.get(run_id, run_id)}"
        self._tasks[run_id] = self._bar.add_task(text.replace("[", r"\["), total=None, phase="starting", count="")

    def _progress(self, run_id: str, phase: str, done: int, total: int) -> None:
        # 80 columns hold the name of a run beside one word.
        short = phase.removeprefix("predict ")
        count = f"{done}/{total}" if total else ""
        self._bar.update(self._tasks[run_id], phase=short, completed=done, total=total or 1, count=count)

    def _done(self, record: Record) -> None:
        self._bar.remove_task(self._tasks.pop(record.run_id))
        self._count += 1
        outcome = "failed" if record.failure else f"{record.headline} {_percent(record)}"
        name = self._names.get(record.run_id, record.run_id)
        place = f"({self._count:{len(str(self._total))}}/{self._total})"
        self._console.print(f"{place} {name}  {outcome}", markup=False, highlight=False, soft_wrap=True)
        if record.failure:
            self._console.print(f"    {_why(record)}", markup=False, highlight=False)


def plan_summary(plan: Plan, todo: int) -> str:
    """One line: how many runs, how many are left, what is set aside."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for item in plan.set_aside:
        groups.setdefault((item.model, item.method, item.reason), []).append(item.task)
    aside = "".join(
        f"\nSet aside: {_some(tasks)} × {model} × {method}: {reason}."
        for (model, method, reason), tasks in groups.items()
    )
    again = f" {plural(plan.repeated, 'more')} would be equal to one of them." if plan.repeated else ""
    mark = _marked(run.spec for run in plan.runs)
    trained = sum(run.spec.train is not None for run in plan.runs)
    of_them = f" ({trained} with training)" if 0 < trained < len(plan.runs) else ""
    told = "".join(f"\n{caution}" for caution in plan.cautions)
    return f"{plan.suite.name}: {plural(len(plan.runs), 'run')}{of_them}, {todo} to do.{again}{mark}{told}{aside}"


def _some(tasks: Sequence[str]) -> str:
    """A few tasks by name, more by number."""
    return ", ".join(tasks) if len(tasks) <= _NAMED else f"{', '.join(tasks[:_NAMED])} and {len(tasks) - _NAMED} more"


def _marked(specs: Iterable[RunSpec]) -> str:
    """What the mark in a table means, where it stands in one."""
    found = list(specs)
    notes = [
        *([TRAIN_IS_TEST_NOTE] if any(spec.task.train_is_test for spec in found) else []),
        *([NOT_CAUSAL_NOTE] if any(spec.method.not_causal for spec in found) else []),
    ]
    return "".join(f"\n{note}" for note in notes)


def plan_table(plan: Plan, states: Mapping[str, State]) -> Table:
    """Every run of a plan."""
    return _runs_table({item.run_id: item.spec for item in plan.runs}, states, {}, {})


def status_table(store: Store, states: Mapping[str, State], progress: Mapping[str, RunProgress]) -> Group:
    """Every run of a store, how far those are that run, a count of the states, and why runs failed."""
    counts = Counter(Text.from_markup(_MARKS[state]).plain for state in states.values())
    records = {run_id: record for run_id in states if (record := store.get(run_id)) is not None}
    found = {run_id: records[run_id].spec if run_id in records else store.spec(run_id) for run_id in states}
    specs = dict(sorted(found.items(), key=lambda item: _order(item[1])))
    table = _runs_table(specs, states, records, progress)
    count = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no runs"
    failed = [record for record in records.values() if record.failure]
    reasons = [Text(f"\n{record.run_id.rpartition('--')[2]} failed in {_why(record)}") for record in failed]
    return Group(table, Text(f"\n{count}{_marked(specs.values())}", style="dim"), *reasons)


def _order(spec: RunSpec) -> tuple[object, ...]:
    """Seeds of one setting below each other, settings by their numbers."""
    settings = spec.model_dump_json(include={"method", "train", "drawn_from", "evaluate"})
    return spec.task.name, spec.model.label, spec.method.name, natural(settings), spec.seed or 0


def _runs_table(
    specs: Mapping[str, RunSpec],
    states: Mapping[str, State],
    records: Mapping[str, Record],
    progress: Mapping[str, RunProgress],
) -> Table:
    """A row for each run: its state, what it is, the digits that name it; scores where there are any."""
    several = len({spec.model.label for spec in specs.values()}) > 1
    wanted = {"score": bool(records), "model": several}
    columns = ("state", "score", "task", "model", "method", "seed", "id")
    table = _table(*(name for name in columns if wanted.get(name, True)))
    for (run_id, spec), method in zip(specs.items(), variants(list(specs.values())), strict=True):
        record = records.get(run_id)
        cells: dict[str, str | Text] = {
            "state": Text.assemble(Text.from_markup(_MARKS[states[run_id]]), _where(progress.get(run_id))),
            "score": _percent(record) if record else "",
            "task": Text(spec.task.label),
            "model": Text(spec.model.label),
            "method": Text(method),
            "seed": "once" if spec.seed is None else str(spec.seed),
            "id": run_id.rpartition("--")[2],
        }
        table.add_row(*(cell for name, cell in cells.items() if wanted.get(name, True)))
    return table


def fetched_table(found: Sequence[Fetched]) -> Table:
    """What a mirror holds of a suite; commits as short as git shows them."""
    table = _table("", "name", "size", "from")
    for one in found:
        state = "[dim]there[/]" if one.was_there else "[green]fetched[/]"
        table.add_row(state, Text(one.name), size(one.bytes), Text(_COMMIT.sub(r"@\1", one.origin)))
    return table


def rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows with equal keys."""
    table = _table(*(rows[0] if rows else ("name",)))
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    return table


def pairs_table(pairs: Mapping[str, str]) -> Table:
    """Names and values."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, value in pairs.items():
        table.add_row(key, Text(value))
    return table


def checks_table(checks: Sequence[Any]) -> Table:
    """The checks of a contract, with what to do about those that fail."""
    table = _table("", "check", "detail")
    for item in checks:
        detail = Text(item.detail) if item.passed else Text.assemble(item.detail, " ", (item.fix, "bold"))
        table.add_row("[green]ok[/]" if item.passed else "[red]no[/]", Text(item.name), detail)
    return table


def _where(progress: RunProgress | None) -> str:
    if progress is None:
        return ""
    return f"  {progress.phase}" + (f" {progress.done}/{progress.total}" if progress.total else "")


def _why(record: Record) -> str:
    failure = record.failure
    return f"{failure.phase}: {failure.kind}: {failure.message} {failure.fix}".strip() if failure else ""


def _percent(record: Record) -> str:
    return "" if record.score is None else f"{100 * record.score:.1f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in {"state", "score", "seed", "id", "name", "size"})
    return table
