"""The questions of a split put to a model: the texts it writes, and what that takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import nn

from peftbench.cost.meter import Reading, meter
from peftbench.evaluation.judge import judge, summarise, unjudged
from peftbench.evaluation.predict import Decoding, greedy
from peftbench.evaluation.score import scores
from peftbench.models._choosing import choose_for_answers
from peftbench.models._layout import Layout
from peftbench.models._load import LoadedModel
from peftbench.record import Merged, Prediction
from peftbench.spec import EvalSpec
from peftbench.tasks._task import Task
from peftbench.training.questions import Question

Split = Literal["test", "validation"]


@dataclass(frozen=True)
class Answered:
    """The questions of a split, the text written for each (None where it does not fit), and what that took."""

    split: Split
    questions: Sequence[Question]
    texts: Sequence[str | None] = ()
    tokens: int = 0
    reading: Reading = field(default_factory=Reading)

    @property
    def rate(self) -> float:
        """New tokens in a second."""
        return self.tokens / max(self.reading.seconds, 1e-9)

    @property
    def rows(self) -> list[Prediction]:
        """The texts as they were written, not judged yet."""
        return unjudged([question.item for question in self.questions], self.texts, self.split)


@dataclass(frozen=True)
class Asking:
    """How questions are put: to which base, under which rules, `batch` at a time.

    More than the `longest` tokens do not stand in one row with others. Answers that are `expected` are found faster.
    Where the rules are to choose among `labels`, these are all that there are.
    """

    base: LoadedModel
    spec: EvalSpec
    batch: int
    progress: Callable[[int, int], None]
    longest: int | None = None
    expected: Sequence[Sequence[int]] = ()
    labels: Sequence[str] = ()

    @property
    def decoding(self) -> Decoding:
        """The rules, as decoding takes them."""
        return Decoding(
            max_new_tokens=self.spec.max_new_tokens or 1,
            end_id=self.base.chat.end_id,
            batch=self.batch,
            device=self.base.device,
            bf16=self.spec.precision == "bf16",
            expected=self.expected,
        )

    def ask(self, module: nn.Module, questions: Sequence[Question], split: Split) -> Answered:
        """Answer the questions with a module that takes the calls of the base."""
        prompts = [question.encoded.prompt for question in questions if question.encoded is not None]
        with meter("predict", self.base.device) as reading:
            how = replace(self.decoding, layout=self._layout(module))
            answer = self._likeliest if self.spec.decoding == "labels" else self._written
            found, tokens = answer(module, prompts, how)
        texts = iter(found)
        return Answered(split, questions, [next(texts) if each.fits else None for each in questions], tokens, reading)

    def _written(self, module: nn.Module, prompts: Sequence[Sequence[int]], how: Decoding) -> tuple[list[str], int]:
        """What is written behind each prompt, and how many tokens that took."""
        ids = greedy(module, prompts, how, self.progress)
        tokens = sum(min(len(row) + 1, how.max_new_tokens) for row in ids)
        return [self.base.chat.decode(row) for row in ids], tokens

    def _likeliest(self, module: nn.Module, prompts: Sequence[Sequence[int]], how: Decoding) -> tuple[list[str], int]:
        """The likeliest label behind each prompt, and how many tokens of labels were looked at."""
        ids = [self.base.chat.answer_ids(label) for label in self.labels]
        best = scores(module, prompts, ids, how, self.progress).argmax(dim=1).tolist()
        return [self.labels[place] for place in best], len(prompts) * sum(map(len, ids))

    def _layout(self, module: nn.Module) -> Layout:
        """Found out for each adapter as it was trained: it has to answer in one row as it does alone."""
        with torch.autocast(self.base.device.type, dtype=torch.bfloat16, enabled=self.spec.precision == "bf16"):
            return choose_for_answers(module, self.base.device, self.longest)

    def ask_merged(self, merged: nn.Module, attached: Answered, task: Task) -> Merged:
        """Answer the same questions with the adapter folded into the base."""
        again = self.ask(merged, attached.questions, attached.split)
        rows = judge(task, [question.item for question in again.questions], again.texts, again.split)
        return Merged(
            metrics=summarise(task, rows, cut=0, unfit=0).metrics,
            changed=sum(old != new for old, new in zip(attached.texts, again.texts, strict=True)),
            predict_seconds=again.reading.seconds,
            predict_tokens_per_second=again.rate,
        )
