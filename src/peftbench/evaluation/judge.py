"""From the texts a model wrote to predictions and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from peftbench.errors import DataProblem
from peftbench.record import Prediction, SplitResult
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
    metrics = {metric.name: metric.over(row.statistics[metric.name] for row in predictions) for metric in task.metrics}
    unreadable = sum(row.answer is None and row.text is not None for row in predictions)
    return SplitResult(metrics=metrics, examples=len(predictions), unreadable=unreadable, cut=cut, unfit=unfit)


def _prediction(item: Item, text: str | None, split: Split) -> Prediction:
    target = item.example.target
    return Prediction(id=item.id, group=item.group, split=split, target=target, text=text, answer=None, statistics={})


def _judged(task: Task, item: Item, raw: Prediction) -> Prediction:
    try:
        answer = None if raw.text is None else task.read(raw.text)
        statistics = {metric.name: metric.statistics(answer, item.reference) for metric in task.metrics}
    except Exception as error:
        raise DataProblem(
            f"The task cannot judge the answer {raw.text!r} to {item.id}: {type(error).__name__}: {error}.",
            "Mend `read` or the metric; all answers are in predictions.jsonl.",
        ) from error
    return raw.model_copy(update={"answer": answer, "statistics": statistics})
