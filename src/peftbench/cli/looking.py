"""Verbs that look at what there is, and at files of one's own: list, show, check, new, env."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from peftbench.cli._arguments import AsJson, DataRoot, StoreDir, show_json, show_on_terminal
from peftbench.errors import UsageError

if TYPE_CHECKING:
    from peftbench.method_card import MethodCard
    from peftbench.spec import Value

Card = TypeVar("Card", bound="Value")


def list_(
    kind: Annotated[str, typer.Argument(help="tasks, methods, variants, models, suites, bundles or executors")],
    as_json: AsJson = False,
) -> None:
    """List what can be named."""
    from peftbench.catalogue import catalogue
    from peftbench.show import rows_table

    rows = catalogue(kind)
    if as_json:
        show_json(rows)
    else:
        show_on_terminal(rows_table(rows))
        if kind == "methods":
            typer.echo("\nVariants: settings of a method under a name of their own")
            show_on_terminal(rows_table(catalogue("variants")))


def show(
    kind: Annotated[str, typer.Argument(help="task, method, model, suite, bundle or run")],
    name: Annotated[str, typer.Argument(help="a name, a file or folder, or the id of a run")],
    store: StoreDir = Path("results"),
    data_root: DataRoot = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Of a task: count its tokens. Of a method: what is trained of it.")
    ] = "",
    attach: Annotated[
        bool, typer.Option("--attach", help="Of a method: load the model, and count what is trained.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one task, method, model, suite, bundle or run in full: a task or method as a card, all else as JSON."""
    root = str(data_root) if data_root else None
    if attach and not (kind == "method" and model):
        raise UsageError(
            "--attach puts a method on a model.", "Write: peftbench show method NAME --model MODEL --attach"
        )
    if kind == "task":
        from peftbench.card import task_card
        from peftbench.show_card import card_view

        _show_card(task_card(name, root, model or None), card_view, as_json)
    elif kind == "method":
        from peftbench.show_method import method_view

        _show_card(_method_card(name, model or None, root, attach=attach), method_view, as_json)
    else:
        from peftbench.catalogue import details

        show_json(details(kind, name, store))


def _show_card(card: Card, view: Callable[[Card], Any], as_json: bool) -> None:
    if as_json:
        show_json(card.model_dump(mode="json"))
    else:
        show_on_terminal(view(card))


def _method_card(name: str, model: str | None, data_root: str | None, *, attach: bool) -> MethodCard:
    """The card of a method; what one that is not of the package can do is tried now, unless it was trained before."""
    from peftbench.method_card import method_card
    from peftbench.methods._probed import libraries
    from peftbench.testing import try_capabilities

    card = method_card(name, model, data_root, attach=attach)
    if card.capabilities or card.earlier:
        return card
    typer.echo(f"Trying what {name} can do, on tiny models: this takes seconds.", err=True)
    return card.model_copy(update={"capabilities": try_capabilities(name), "libraries": libraries()})


def check(
    file: Annotated[
        str,
        typer.Argument(help="A file with a TASK, METHOD or EXECUTOR, a task as YAML, a method's folder, or a name."),
    ],
    as_json: AsJson = False,
) -> None:
    """Hold a task, method or executor against its contract."""
    from peftbench.show import checks_table
    from peftbench.testing import check_member

    checks = check_member(file)
    if as_json:
        show_json([vars(item) for item in checks])
    else:
        show_on_terminal(checks_table(checks))
        if {"specimen", "rows"} & {item.name for item in checks} == {"specimen"} and all(
            item.passed for item in checks
        ):
            typer.echo("Its rows were not looked at: see peftbench show task NAME --data-root DIR.", err=True)
    if not all(item.passed for item in checks):
        raise typer.Exit(1)


def new(
    kind: Annotated[str, typer.Argument(help="task or method")],
    file: Annotated[Path, typer.Argument(help="The file to write: .py, or .yaml for a task without code.")],
) -> None:
    """Write a working example of a task or method, to be changed."""
    from peftbench import verbs

    if kind not in {"task", "method"}:
        raise UsageError(f"{kind!r} cannot be written.", "There are: task, method")
    written = verbs.new_file("task" if kind == "task" else "method", file)
    # An example of a task in Python names its rows, which are somebody's own.
    rows = "put train.jsonl and test.jsonl beside it, then " if (kind, file.suffix) == ("task", ".py") else ""
    typer.echo(f"Wrote {' and '.join(map(str, written))}. Next: {rows}peftbench check {file}")


def env(as_json: AsJson = False) -> None:
    """Describe this environment: versions, processor, devices."""
    from peftbench.catalogue import environment
    from peftbench.show import pairs_table

    facts = environment()
    if as_json:
        show_json(facts)
    else:
        show_on_terminal(pairs_table(facts))
