"""What a task says to a model, as text that can be read and compared."""

from __future__ import annotations

import re

from peftbench.models._chat import Message
from peftbench.tasks._task import Task

_HEADER = re.compile(r"version: (\d+)\n")


def rendered(task: Task) -> str:
    """The version of a task, and message and target of its specimen rows."""
    examples = [task.ask(row) for row in task.specimen]
    parts = [f"version: {task.version}\n"]
    for place, example in enumerate(examples):
        text = Message(example.instruction, example.body, example.question).text
        parts.append(f"=== message {place}\n{text}\n=== target {place}\n{example.target}\n")
    return "\n".join(parts)


def complaint(task: Task, golden: str | None) -> str | None:
    """Why the prompt of a task may not stand beside what was written of it earlier, or None."""
    if golden is None:
        return "There is no golden file. Write it with: pytest tests/contract --update-golden"
    if rendered(task) == golden:
        return None
    header = _HEADER.match(golden)
    if header is None or int(header[1]) >= task.version:
        return "The prompt changed and the version did not rise. Raise `version` in the task's file."
    return "The version rose. Write the golden file with: pytest tests/contract --update-golden"


def may_be_written(task: Task, golden: str | None) -> bool:
    """Whether a golden file is missing or of an earlier version; a prompt is not replaced under its own version."""
    header = None if golden is None else _HEADER.match(golden)
    return header is None or int(header[1]) < task.version
