"""What a task says to a model and how it takes the answers, as text that can be read and compared."""

from __future__ import annotations

import re
from collections.abc import Sequence

from peftbench.models._chat import Message
from peftbench.tasks._task import Task

_HEADER = re.compile(r"version: (\d+)\n")


# Around a target: what models write beside it.
_AROUND = ("{}", " {}.", "{}\n\nBecause of the tone.", "The answer is {}", "**{}**", "not {}", '"{}"')
_ELSE = ("", "no idea", "1", "2", "yes", "#### 7", "A", "-3.50")


def rendered(task: Task) -> str:
    """The version of a task, message and target of its specimen rows, and what is read and counted of answers."""
    examples = [task.ask(row) for row in task.specimen]
    parts = [f"version: {task.version}\n"]
    for place, example in enumerate(examples):
        text = Message(example.instruction, example.body, example.question).text
        parts.append(f"=== message {place}\n{text}\n=== target {place}\n{example.target}\n")
        parts.extend(f"=== also right {place}\n{other}\n" for other in example.accepted if other != example.target)
    parts.append(f"=== at most {task.max_new_tokens} new tokens\n")
    reads = [f"{text!r} -> {task.read(text)!r}" for text in _texts([example.target for example in examples])]
    parts.append("\n".join(["=== reads", *reads, ""]))
    references = [str(task.read(example.target)) for example in examples]
    for metric in task.metrics:
        pairs = ((answer, reference) for reference in references for answer in (*references, None))
        counts = [
            f"{answer!r} for {reference!r}: {metric.statistics(answer, (reference,))}" for answer, reference in pairs
        ]
        parts.append("\n".join([f"=== {metric.name}", *counts, ""]))
    return "\n".join(parts)


def _texts(targets: Sequence[str]) -> list[str]:
    """Texts of one line each, so that a changed reading is one changed line; long targets by their last line."""
    short = [target.splitlines()[-1] for target in targets]
    return [*(form.format(target) for target in short for form in _AROUND), " ".join(short), *_ELSE]


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
