"""From the texts a model wrote to predictions and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from peftbench.errors import DataProblem
from peftbench.record import Prediction, SplitResult
from peftbench.tasks._task import Item, Task

Split = Literal["test", "validation"]


def judge(task: Task, items: Sequence[Item], texts: Sequence[str | None], split: Split) -> list[Prediction]:
    """Read every text and note, per metric, the numbers of the example. None stands for a question never asked."""
    return [_prediction(task, item, text, split) for item, text in zip(items, texts, strict=True)]


def summarise(task: Task, predictions: Sequence[Prediction], *, cut: int, unfit: int) -> SplitResult:
    """Metrics and counts over the predictions of a split; at least one."""
    metrics = {metric.name: metric.over(row.statistics[metric.name] for row in predictions) for metric in task.metrics}
    unreadable = sum(row.answer is None and row.text is not None for row in predictions)
    return SplitResult(metrics=metrics, examples=len(predictions), unreadable=unreadable, cut=cut, unfit=unfit)


def _prediction(task: Task, item: Item, text: str | None, split: Split) -> Prediction:
    try:
        answer = None if text is None else task.read(text)
        statistics = {metric.name: metric.statistics(answer, item.reference) for metric in task.metrics}
    except Exception as error:
        # The answer is named, for it may have taken hours to come by.
        raise DataProblem(
            f"The task cannot judge the answer {text!r} to {item.id}: {type(error).__name__}: {error}.",
            "Mend `read` or the metric.",
        ) from error
    return Prediction(
        id=item.id,
        group=item.group,
        split=split,
        target=item.example.target,
        text=text,
        answer=answer,
        statistics=statistics,
    )
