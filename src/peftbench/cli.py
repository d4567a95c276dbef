"""The command line: reads arguments, shows results. Everything heavy is imported inside the verb that needs it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from peftbench._version import __version__
from peftbench.errors import PeftbenchError, UsageError

if TYPE_CHECKING:
    from peftbench.plan import Plan
    from peftbench.record import Record
    from peftbench.spec import PscpSpec, Resources, Suite
    from peftbench.store import State, Store
    from peftbench.verbs import Outcome

EPILOG = "Exit codes: 0 done, 1 some runs failed, 2 wrong usage. Progress goes to stderr; NO_COLOR is obeyed."
app = typer.Typer(
    name="peftbench",
    help="Which parameter-efficient fine-tuning method for your model, data and budget, and how sure is that?",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

What = Annotated[
    list[str] | None,
    typer.Argument(help="A suite (a file, or one that ships), then overrides such as train.num_train_epochs=1."),
]
Tasks = Annotated[str, typer.Option("--tasks", "-t", help="Tasks, separated by commas: names or files.")]
Models = Annotated[
    str, typer.Option("--models", "-m", help="Models, separated by commas: folders, hub ids, or `tiny`.")
]
Methods = Annotated[str, typer.Option("--methods", help="Methods, separated by commas: names or files.")]
Seeds = Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas.")]
StoreDir = Annotated[Path, typer.Option("--store", "-o", help="Folder that keeps runs and report.")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder with a local mirror of the data sets; the hub when absent.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads of a run.")]
MicroBatch = Annotated[int | None, typer.Option(help="Examples per forward pass in training.")]
EvalBatch = Annotated[int | None, typer.Option(help="Examples answered together.")]
KeepAdapters = Annotated[bool, typer.Option("--adapters/--no-adapters", help="Keep the trained adapters.")]
Executor = Annotated[str, typer.Option(help="Where runs are done: inline, local (several at a time), or a file.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes of --executor local; by default one a GPU, or one a core.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
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
    adapters: KeepAdapters = True,
    executor: Executor = "inline",
    workers: Workers = None,
    retry: Annotated[bool, typer.Option("--retry", help="Do failed runs again.")] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write the report at the end.")] = True,
) -> None:
    """Do what is missing of a suite, then report. Called again, it continues."""
    from peftbench import verbs
    from peftbench.show import Display, plan_summary, run_names
    from peftbench.store import Store

    do = verbs.choose_executor(executor, workers)
    suite = _suite(what, tasks, models, methods, seeds)
    resources = _resources(data_root, device, threads, micro_batch, eval_batch, adapters)
    place = Store(store)
    todo = verbs.pending(suite, place, resources, retry=retry)
    typer.echo(plan_summary(todo.plan, len(todo.run_ids)), err=True)
    names = run_names({item.run_id: item.spec for item in todo.plan.runs})
    with _stoppable(), Display({run_id: names[run_id] for run_id in todo.run_ids}) as display:
        outcome = verbs.complete(todo, place, executor=do, watcher=display.watcher())
    if report:
        _report(place, outcome.records, suite.pscp)
    _end(outcome, place, names)


@app.command()
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

    suite = _suite(what, tasks, models, methods, seeds)
    todo = verbs.pending(suite, Store(store), Resources(data_root=str(data_root) if data_root else None))
    if as_json:
        _print_json(_plan_json(todo.plan, todo.states))
    else:
        _print(plan_table(todo.plan, todo.states))
        typer.echo(plan_summary(todo.plan, len(todo.run_ids)))


@app.command(name="list")
def list_(
    kind: Annotated[str, typer.Argument(help="tasks, methods, models, suites, bundles or executors")],
    as_json: AsJson = False,
) -> None:
    """List what can be named."""
    from peftbench.catalogue import catalogue
    from peftbench.show import rows_table

    rows = catalogue(kind)
    if as_json:
        _print_json(rows)
    else:
        _print(rows_table(rows))


@app.command()
def show(
    kind: Annotated[str, typer.Argument(help="task, method, model, suite, bundle or run")],
    name: Annotated[str, typer.Argument(help="a name, a file or folder, or the id of a run")],
    store: StoreDir = Path("results"),
) -> None:
    """Show one task, method, model, suite, bundle or run in full, as JSON."""
    from peftbench.catalogue import details

    _print_json(details(kind, name, store))


@app.command(name="exec")
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


@app.command()
def status(store: StoreDir = Path("results"), as_json: AsJson = False) -> None:
    """Say how far every run of a store is."""
    from peftbench import verbs
    from peftbench.show import status_table
    from peftbench.store import Store

    states = verbs.states(Store(store))
    progress = verbs.progress(Store(store), states)
    if as_json:
        _print_json(verbs.status_rows(states, progress))
    else:
        _print(status_table(Store(store), states, progress))


@app.command()
def report(
    constants: Annotated[list[str] | None, typer.Argument(help="Constants of PSCP, as pscp.beta_memory=2.")] = None,
    store: StoreDir = Path("results"),
    out: Annotated[Path | None, typer.Option(help="Folder of the report.")] = None,
) -> None:
    """Print the result tables and write the report: HTML, Markdown, CSV."""
    from peftbench import verbs
    from peftbench.store import Store
    from peftbench.suites._read import read_constants

    wanted = read_constants(constants or ())
    verbs.states(Store(store))
    _report(Store(store), Store(store).records(), wanted, out)


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="A file with a TASK, METHOD or EXECUTOR, a task as YAML, or a name.")],
    as_json: AsJson = False,
) -> None:
    """Hold a task, method or executor against its contract."""
    from peftbench.show import checks_table
    from peftbench.testing import check_member

    checks = check_member(file)
    if as_json:
        _print_json([vars(item) for item in checks])
    else:
        _print(checks_table(checks))
    if not all(item.passed for item in checks):
        raise typer.Exit(1)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="task or method")],
    file: Annotated[Path, typer.Argument(help="The file to write: .py, or .yaml for a task without code.")],
) -> None:
    """Write a working example of a task or method, to be changed."""
    from peftbench import verbs

    if kind not in {"task", "method"}:
        raise UsageError(f"{kind!r} cannot be written.", "There are: task, method")
    written = verbs.new_file("task" if kind == "task" else "method", file)
    typer.echo(f"Wrote {' and '.join(map(str, written))}. Next: peftbench check {file}")


@app.command()
def env(as_json: AsJson = False) -> None:
    """Describe this environment: versions, processor, devices."""
    from peftbench.catalogue import environment
    from peftbench.show import pairs_table

    facts = environment()
    if as_json:
        _print_json(facts)
    else:
        _print(pairs_table(facts))


def main() -> NoReturn:
    """Entry point: an error of ours becomes one sentence and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a dash shows a question mark.
            stream.reconfigure(errors="replace")
    sys.argv[1:] = [_dashed(argument) for argument in sys.argv[1:]]
    try:
        app()
    except PeftbenchError as error:
        coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        typer.secho(f"peftbench: {error}", err=True, fg=typer.colors.RED if coloured else None)
        raise SystemExit(2) from None
    raise SystemExit(0)


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


def _dashed(argument: str) -> str:
    """`--data_root` is as good as `--data-root`."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if argument.startswith("--") else argument


def _suite(what: list[str] | None, tasks: str, models: str, methods: str, seeds: str) -> Suite:
    """A suite by name or file, or one made of options alone; options win over the file."""
    from peftbench.suites._read import build_suite, read_suite

    names = [item for item in what or [] if "=" not in item]
    overrides = [item for item in what or [] if "=" in item]
    options = {"tasks": tasks, "models": models, "methods": methods, "seeds": seeds}
    overrides += [f"{key}={value}" for key, value in options.items() if value]
    if not names and not {item.partition("=")[0] for item in overrides} & {"bundle", "tasks", "models", "methods"}:
        raise UsageError(
            "Nothing was asked for.",
            "Name a suite (peftbench run quickstart), or give --tasks, --models and --methods.",
        )
    if len(names) > 1:
        raise UsageError(f"Two suites were named: {names[0]} and {names[1]}.", "Name one.")
    return read_suite(names[0], overrides) if names else build_suite({}, overrides)


def _resources(
    data_root: Path | None,
    device: str,
    threads: int | None,
    micro_batch: int | None,
    eval_batch: int | None,
    adapters: bool,
) -> Resources:
    from peftbench.spec import Resources

    given: dict[str, Any] = {"device": device, "save_adapter": adapters, "threads": threads, "micro_batch": micro_batch}
    if data_root is not None:
        given["data_root"] = str(data_root.resolve())
    if eval_batch is not None:
        given["eval_batch"] = eval_batch
    return Resources.parse(given, "the command line")


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


def _report(store: Store, shown: Sequence[Record], constants: PscpSpec, out: Path | None = None) -> None:
    """Tables of some of the records in the terminal, the report of all of them on the disk."""
    from peftbench.report import terminal_tables, write_report

    files = write_report(store, out, constants)
    for table in terminal_tables(shown, constants):
        _print(table)
    others = len(store.records()) - len(shown)
    if others:
        typer.echo(f"The store holds {others} more: peftbench report --store {store.path}")
    typer.echo(f"Report: {files.html}")


def _plan_json(plan: Plan, states: Mapping[str, State]) -> dict[str, Any]:
    runs = [
        {"run_id": item.run_id, "state": states[item.run_id], "spec": item.spec.model_dump(mode="json")}
        for item in plan.runs
    ]
    return {"suite": plan.suite.name, "runs": runs, "set_aside": [vars(item) for item in plan.set_aside]}


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console().print(renderable)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, default=str, ensure_ascii=False))
