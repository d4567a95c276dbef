"""Arguments that several verbs take, and what is made of them; and how results are printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peftbench.errors import UsageError

if TYPE_CHECKING:
    from peftbench.spec import Resources, Suite

What = Annotated[
    list[str] | None,
    typer.Argument(help="A suite (a file, or one that ships), then overrides such as train.num_train_epochs=1."),
]
Tasks = Annotated[str, typer.Option("--tasks", "-t", help="Tasks, separated by commas: names or files.")]
Models = Annotated[
    str, typer.Option("--models", "-m", help="Models, separated by commas: folders, hub ids, or `tiny`.")
]
Methods = Annotated[str, typer.Option("--methods", help="Methods, separated by commas: names, files or folders.")]
Seeds = Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas.")]
StoreDir = Annotated[Path, typer.Option("--store", "-o", help="Folder that keeps runs and report.")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder with a local mirror of the data sets; the hub when absent.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads of a run.")]
MicroBatch = Annotated[int | None, typer.Option(help="Examples per forward pass in training.")]
EvalBatch = Annotated[int | None, typer.Option(help="Examples answered together.")]
Mode = Annotated[str, typer.Option(help="fast, or lean: much less memory in training, for more time.")]
Matmul = Annotated[
    str, typer.Option(help="On a CPU: torch, onednn, or auto, which takes onednn where it is as exact and faster.")
]
CheckpointSeconds = Annotated[
    float, typer.Option(help="Between two states of a training from which it goes on after a kill.")
]
KeepAdapters = Annotated[bool, typer.Option("--adapters/--no-adapters", help="Keep the trained adapters.")]
ProbeUpdates = Annotated[
    bool, typer.Option("--probe-updates", help="Write how large the updates of adapters are, layer by layer.")
]
Executor = Annotated[str, typer.Option(help="Where runs are done: inline, local (several at a time), or a file.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes of --executor local; by default one a GPU, or one a core.")
]
Retry = Annotated[bool, typer.Option("--retry", help="Do failed runs again.")]
WithReport = Annotated[bool, typer.Option("--report/--no-report", help="Write the report at the end.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def suite_of(what: list[str] | None, tasks: str, models: str, methods: str, seeds: str) -> Suite:
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


def resources_of(data_root: Path | None, **given: Any) -> Resources:
    """How and where runs are to be done, by the names of its fields; InvalidSpec for a value that cannot be."""
    from peftbench.spec import Resources

    if data_root is not None:
        given["data_root"] = str(data_root.resolve())
    return Resources.parse({name: value for name, value in given.items() if value is not None}, "the command line")


def show_on_terminal(renderable: Any) -> None:
    """Print a table in the width of the terminal."""
    from rich.console import Console

    Console().print(renderable)


def show_json(value: Any) -> None:
    """Print a value for programs."""
    typer.echo(json.dumps(value, indent=1, default=str, ensure_ascii=False))
