"""A reader or a metric that raises: the answer that broke it is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peftbench.errors import DataProblem
from peftbench.evaluation.judge import judge
from peftbench.tasks._task import items
from peftbench.tasks.sst2 import TASK


def test_the_answer_that_cannot_be_judged_is_named() -> None:
    def read(text: str) -> str | None:
        return ["positive"][int(text)]

    rows = items(TASK, [(7, TASK.specimen[0])], "test")
    with pytest.raises(DataProblem, match=r"answer 'maybe' to test/7: ValueError: .*Mend `read` or the metric."):
        judge(replace(TASK, read=read), rows, ["maybe"], "test")
