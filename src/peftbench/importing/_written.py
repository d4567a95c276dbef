"""What an import comes to: a folder of tasks with a suite over them, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftbench.errors import UsageError
from peftbench.strict_yaml import yaml_text

SUITE = "suite.yaml"


@dataclass(frozen=True)
class LeftOut:
    """An entry that was not imported, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class TaskToWrite:
    """A task: the name of its file without suffix, what stands in it, and the further splits it can be evaluated on."""

    name: str
    settings: Mapping[str, Any]
    further: tuple[str, ...] = ()

    @property
    def of_files(self) -> bool:
        """Whether its rows are in files of one's own, and not on the hub."""
        return "train" in self.settings


@dataclass(frozen=True)
class Imported:
    """What was written: the folder, its tasks, the further splits as `TASK [SPLIT]`, and what was left out.

    `of_hub` are those of the tasks whose rows are on the hub.
    """

    folder: Path
    tasks: tuple[str, ...]
    further: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    of_hub: tuple[str, ...] = ()


def write_tasks(folder: Path, tasks: Sequence[TaskToWrite], suite: Mapping[str, Any], head: str) -> None:
    """Write a file for each task and the suite over them; `head` is a line that says where they come from.

    Raises:
        UsageError: the folder exists or cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists.", "Name another folder: --out DIR. Nothing was written.")
    head = " ".join(head.split())
    further = [f"#   {{use: {task.name}.yaml, test: {split}}}" for task in tasks for split in task.further]
    note = "\n".join(["# Other splits, for the list of tasks:", *further, ""]) if further else ""
    entries = {**suite, "tasks": [f"{task.name}.yaml" for task in tasks]}
    texts = {f"{task.name}.yaml": f"# {head}\n{yaml_text(task.settings)}" for task in tasks}
    texts[SUITE] = f"# {head}\n{note}{yaml_text(entries)}"
    try:
        folder.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error}.", "Name another folder: --out DIR") from error
