"""The command line: reads arguments, shows results. Everything heavy is imported inside the verb that needs it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from peftbench._version import __version__
from peftbench.cli import data, looking, running
from peftbench.errors import PeftbenchError

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


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


VERBS: dict[str, Callable[..., None]] = {
    "run": running.run,
    "evaluate": running.evaluate,
    "plan": running.plan,
    "exec": running.exec_,
    "status": running.status,
    "report": running.report,
    "fetch": data.fetch,
    "import": data.import_,
    "list": looking.list_,
    "show": looking.show,
    "check": looking.check,
    "new": looking.new,
    "env": looking.env,
}
for name, verb in VERBS.items():
    app.command(name)(verb)


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


def _dashed(argument: str) -> str:
    """`--data_root` is as good as `--data-root`."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if argument.startswith("--") else argument
