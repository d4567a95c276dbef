"""What a person sees in the terminal: progress while runs are done, and tables of what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from peftbench.executors._executor import Watcher
    from peftbench.plan import Plan
    from peftbench.record import Record
    from peftbench.store import State, Store

_MARKS = {"done": "[green]done[/]", "failed": "[red]failed[/]", "started": "[yellow]interrupted[/]", "missing": "to do"}


class Display:
    """Progress on stderr: a bar in a terminal, a line a run elsewhere."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True)
        self._total, self._count = total, 0
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("", total=1)

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
        self._run_id = run_id
        self._progress("starting", 0, 0)

    def _progress(self, phase: str, done: int, total: int) -> None:
        text = f"[{self._count + 1}/{self._total}] {self._run_id.rpartition('--')[0]} · {phase}"
        self._bar.update(self._task, description=text.replace("[", r"\["), completed=done, total=total or 1)

    def _done(self, record: Record) -> None:
        self._count += 1
        outcome = "failed" if record.failure else f"{record.headline} {_percent(record)}"
        self._console.print(
            f"({self._count}/{self._total}) {record.run_id}  {outcome}", highlight=False, soft_wrap=True
        )
        if record.failure:
            self._console.print(f"    {_why(record)}", markup=False, highlight=False)


def plan_summary(plan: Plan, todo: int) -> str:
    """One line: how many runs, how many are left, what is set aside."""
    aside = "".join(
        f"\nSet aside: {item.task} × {item.model} × {item.method}: {item.reason}." for item in plan.set_aside
    )
    return f"{plan.suite.name}: {len(plan.runs)} runs, {todo} to do.{aside}"


def plan_table(plan: Plan, todo: set[str]) -> Table:
    """Every run of a plan. Its id says task, model, method and seed."""
    table = _table("state", "run id")
    for item in plan.runs:
        table.add_row(_MARKS["missing" if item.run_id in todo else "done"], item.run_id)
    return table


def status_table(store: Store, states: Mapping[str, State]) -> Table:
    """Every run of a store, and a count of the states."""
    counts = Counter(Text.from_markup(_MARKS[state]).plain for state in states.values())
    table = _table("state", "score", "run id", "why")
    table.caption = ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no runs"
    for run_id, state in states.items():
        record = store.get(run_id)
        score = _percent(record) if record else ""
        why = _why(record) if record else ""
        table.add_row(_MARKS[state], score, Text(run_id), Text(why))
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


def _why(record: Record) -> str:
    failure = record.failure
    return f"{failure.phase}: {failure.kind}: {failure.message} {failure.fix}".strip() if failure else ""


def _percent(record: Record) -> str:
    return "" if record.score is None else f"{100 * record.score:.1f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
