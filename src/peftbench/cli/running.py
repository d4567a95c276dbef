"""Verbs that do runs, or say how far they are: run, plan, exec, status, report."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from peftbench.cli._arguments import (
    AsJson,
    CheckpointSeconds,
    DataRoot,
    Device,
    EvalBatch,
    Executor,
    KeepAdapters,
    Matmul,
    Methods,
    MicroBatch,
    Mode,
    Models,
    ProbeUpdates,
    Retry,
    Seeds,
    StoreDir,
    Tasks,
    Threads,
    What,
    WithReport,
    Workers,
    resources_of,
    show_json,
    show_on_terminal,
    suite_of,
)
from peftbench.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from peftbench.plan import Plan
    from peftbench.record import Record
    from peftbench.spec import PscpSpec, Reading, Resources, Suite
    from peftbench.store import State, Store
    from peftbench.verbs import Outcome


def run(
    what: What = None,
    tasks: Tasks = "",
    models: Models = "",
    methods: Methods = "",
    seeds: Seeds = "",
    store: StoreDir = Path("results"),
    data_root: DataRoot = None,
    device: Device = "auto",
    threads: Threads = None,
    micro_batch: MicroBatch = None,
    eval_batch: EvalBatch = None,
    mode: Mode = "fast",
    matmul: Matmul = "auto",
    checkpoint_seconds: CheckpointSeconds = 60.0,
    adapters: KeepAdapters = True,
    probe_updates: ProbeUpdates = False,
    executor: Executor = "inline",
    workers: Workers = None,
    retry: Retry = False,
    report: WithReport = True,
) -> None:
    """Do what is missing of a suite, then report. Called again, it continues."""
    suite = suite_of(what, tasks, models, methods, seeds)
    resources = resources_of(
        data_root,
        device=device,
        threads=threads,
        micro_batch=micro_batch,
        eval_batch=eval_batch,
        mode=mode,
        matmul=matmul,
        checkpoint_seconds=checkpoint_seconds,
        save_adapter=adapters,
        probe_updates=probe_updates,
    )
    _do(suite, resources, store, (executor, workers), retry=retry, report=report)


def evaluate(
    adapter: Annotated[list[str], typer.Option("--adapter", help="Folder of a trained adapter; may be repeated.")],
    what: What = None,
    tasks: Tasks = "",
    models: Models = "",
    store: StoreDir = Path("results"),
    data_root: DataRoot = None,
    device: Device = "auto",
    threads: Threads = None,
    eval_batch: EvalBatch = None,
    matmul: Matmul = "auto",
    executor: Executor = "inline",
    workers: Workers = None,
    retry: Retry = False,
    report: WithReport = True,
) -> None:
    """Ask a model with an adapter that was trained before, by peft or by a run here, as it is.

    Such a folder is a method that does not train: a suite may name it beside others.
    """
    from peftbench import verbs

    methods = ",".join(verbs.trained_adapters(adapter))
    suite = suite_of(what, tasks, models, methods, "")
    resources = resources_of(
        data_root, device=device, threads=threads, eval_batch=eval_batch, matmul=matmul, save_adapter=False
    )
    _do(suite, resources, store, (executor, workers), retry=retry, report=report)


def _do(
    suite: Suite, resources: Resources, store: Path, who: tuple[str, int | None], *, retry: bool, report: bool
) -> None:
    """Do what is missing of a suite, then report; `who` are the executor and the number of its workers."""
    from peftbench import verbs
    from peftbench.show import Display, plan_summary, run_names
    from peftbench.store import Store

    do = verbs.choose_executor(*who)
    place = Store(store)
    todo = verbs.pending(suite, place, resources, retry=retry)
    typer.echo(plan_summary(todo.plan, len(todo.run_ids)), err=True)
    names = run_names({item.run_id: item.spec for item in todo.plan.runs})
    with _stoppable(), Display({run_id: names[run_id] for run_id in todo.run_ids}) as display:
        outcome = verbs.complete(todo, place, executor=do, watcher=display.watcher())
    if report:
        _report(place, outcome.records, suite.pscp, suite.metrics)
    _end(outcome, place, names)


def plan(
    what: What = None,
    tasks: Tasks = "",
    models: Models = "",
    methods: Methods = "",
    seeds: Seeds = "",
    store: StoreDir = Path("results"),
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Say what `run` would do: every run, what is done already, what is set aside and why. Writes nothing."""
    from peftbench import verbs
    from peftbench.show import plan_summary, plan_table
    from peftbench.spec import Resources
    from peftbench.store import Store

    suite = suite_of(what, tasks, models, methods, seeds)
    todo = verbs.pending(suite, Store(store), Resources(data_root=str(data_root) if data_root else None))
    if as_json:
        show_json(_plan_json(todo.plan, todo.states))
    else:
        show_on_terminal(plan_table(todo.plan, todo.states))
        typer.echo(plan_summary(todo.plan, len(todo.run_ids)))


def exec_(
    store: Annotated[Path, typer.Argument(help="Folder of the store.")],
    run_ids: Annotated[
        list[str],
        typer.Argument(help="Ids of runs that the store describes, or their last digits; - reads them from stdin."),
    ],
    again: Annotated[bool, typer.Option("--again", help="Do runs that ended well once more.")] = False,
) -> None:
    """Do the named runs here and now, unless they are done. This is what every executor calls.

    With - in their place, ids are read from standard input, one a line, and what happens is told as JSON lines.
    """
    from peftbench import verbs
    from peftbench.show import Display, run_names
    from peftbench.store import Store

    place = Store(store)
    if "-" in run_ids:
        _serve(place, alone=run_ids == ["-"] and not again)
        return
    wanted = [place.find(run_id) for run_id in run_ids]
    names = run_names({run_id: place.spec(run_id) for run_id in wanted})
    with _stoppable(), Display(names) as display:
        records = verbs.execute_runs(place, wanted, again=again, watcher=display.watcher())
    if any(record.failure for record in records):
        raise typer.Exit(1)


def status(store: StoreDir = Path("results"), as_json: AsJson = False) -> None:
    """Say how far every run of a store is."""
    from peftbench import verbs
    from peftbench.show import status_table
    from peftbench.store import Store

    place = Store(store)
    states = verbs.states(place)
    progress = verbs.progress(place, states)
    if as_json:
        show_json(verbs.status_rows(place, states, progress))
    else:
        show_on_terminal(status_table(place, states, progress))


def report(
    constants: Annotated[list[str] | None, typer.Argument(help="Constants of PSCP, as pscp.beta_memory=2.")] = None,
    store: StoreDir = Path("results"),
    metrics: Annotated[str, typer.Option(help="Which headlines: `own`, or `published`.")] = "own",
    out: Annotated[Path | None, typer.Option(help="Folder of the report.")] = None,
) -> None:
    """Print the result tables and write the report: HTML, Markdown, CSV."""
    from peftbench import verbs
    from peftbench.store import Store
    from peftbench.suites._read import read_constants

    wanted = read_constants(constants or ())
    verbs.states(Store(store))
    _report(Store(store), Store(store).records(), wanted, _reading(metrics), out)


def _reading(name: str) -> Reading:
    from peftbench.spec import Reading

    known: dict[str, Reading] = {one: one for one in get_args(Reading)}
    if name not in known:
        raise UnknownName("reading", name, known, "--metrics")
    return known[name]


def _serve(store: Store, *, alone: bool) -> None:
    """Be a worker: ids come in, events go out."""
    from peftbench import verbs
    from peftbench.executors._events import events_on_stdout

    if not alone:
        raise UsageError("With - the runs come from standard input alone.", "Leave other ids and --again away.")
    with _stoppable():
        well = verbs.serve_runs(store, sys.stdin, events_on_stdout())
    if not well:
        raise typer.Exit(1)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C, and being asked to end, is one sentence."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command continues.", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(outcome: Outcome, store: Store, names: Mapping[str, str]) -> None:
    """Say what is amiss, and exit with 1 when something is."""
    if outcome.failed:
        first = outcome.failed[0].run_id
        typer.echo(
            f"{len(outcome.failed)} of {len(outcome.records)} runs failed. Again: --retry. "
            f"Log of {names[first]}: {store.folder(first).log}",
            err=True,
        )
    if outcome.missing:
        asked = len(outcome.plan.runs)
        typer.echo(f"{len(outcome.missing)} of {asked} runs have no record. The same command continues.", err=True)
    if outcome.failed or outcome.missing:
        raise typer.Exit(1)


def _report(
    store: Store, shown: Sequence[Record], constants: PscpSpec, reading: Reading, out: Path | None = None
) -> None:
    """Tables of some of the records in the terminal, the report of all of them on the disk."""
    from peftbench.report import terminal_tables, write_report

    files = write_report(store, out, constants, reading)
    for table in terminal_tables(shown, constants, reading):
        show_on_terminal(table)
    others = len(store.records()) - len(shown)
    if others:
        typer.echo(f"The store holds {others} more: peftbench report --store {store.path}")
    typer.echo(f"Report: {files.html}")


def _plan_json(plan: Plan, states: Mapping[str, State]) -> dict[str, Any]:
    runs = [
        {"run_id": item.run_id, "state": states[item.run_id], "spec": item.spec.model_dump(mode="json")}
        for item in plan.runs
    ]
    aside = [vars(item) for item in plan.set_aside]
    return {"suite": plan.suite.name, "runs": runs, "set_aside": aside, "cautions": list(plan.cautions)}
