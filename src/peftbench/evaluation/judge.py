"""From the texts a model wrote to predictions and metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from peftbench.errors import DataProblem
from peftbench.record import PUBLISHED, Prediction, SplitResult
from peftbench.tasks._task import Item, Task

Split = Literal["test", "validation"]


def unjudged(items: Sequence[Item], texts: Sequence[str | None], split: Split) -> list[Prediction]:
    """The texts as they are, to be kept before a reader of somebody else looks at them."""
    return [_prediction(item, text, split) for item, text in zip(items, texts, strict=True)]


def judge(task: Task, items: Sequence[Item], texts: Sequence[str | None], split: Split) -> list[Prediction]:
    """Read every text and note, per metric, the numbers of the example. None stands for a question never asked."""
    return [_judged(task, item, raw) for item, raw in zip(items, unjudged(items, texts, split), strict=True)]


def summarise(task: Task, predictions: Sequence[Prediction], *, cut: int, unfit: int) -> SplitResult:
    """Metrics and counts over the predictions of a split; at least one."""
    named = {metric.name: metric for metric in task.metrics} | {PUBLISHED + one.name: one for one in task.published}
    values = {name: metric.over(row.statistics[name] for row in predictions) for name, metric in named.items()}
    # What is undefined (the published correlation of a constant column) is no number and is not kept as one.
    metrics = {name: value for name, value in values.items() if math.isfinite(value)}
    unreadable = sum(row.answer is None and row.text is not None for row in predictions)
    return SplitResult(metrics=metrics, examples=len(predictions), unreadable=unreadable, cut=cut, unfit=unfit)


def _prediction(item: Item, text: str | None, split: Split) -> Prediction:
    target = item.example.target
    return Prediction(id=item.id, group=item.group, split=split, target=target, text=text, answer=None, statistics={})


def _judged(task: Task, item: Item, raw: Prediction) -> Prediction:
    try:
        answer = None if raw.text is None else task.read(raw.text)
        statistics = {metric.name: metric.statistics(answer, item.references) for metric in task.metrics}
        written = item.example.accepted or (item.example.target,)
        statistics |= {PUBLISHED + metric.name: metric.statistics(raw.text, written) for metric in task.published}
    except Exception as error:
        raise DataProblem(
            f"The task cannot judge the answer {raw.text!r} to {item.id}: {type(error).__name__}: {error}.",
            "Mend `read` or the metric; all answers are in predictions.jsonl.",
        ) from error
    return raw.model_copy(update={"answer": answer, "statistics": statistics})
