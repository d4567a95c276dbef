"""How answers are read and counted, by the names that a task without code uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from peftbench.errors import InvalidSpec, UnknownName
from peftbench.metrics._metric import Metric, RankMetric
from peftbench.metrics.classification import ACCURACY, f1, macro_f1, matthews
from peftbench.metrics.code import CODE_BLEU
from peftbench.metrics.exact import EXACT_MATCH, TOKEN_F1
from peftbench.metrics.numeric import NUMERIC_ACCURACY
from peftbench.metrics.regression import pearson, spearman
from peftbench.spec import Entry, Value
from peftbench.tasks._answer import choice, code, first_line, number_after, number_within, whole

Reader = Callable[[str], str | None]
AnyMetric = Metric | RankMetric


class NoOptions(Value):
    """Nothing can be set."""


class NumberOptions(Value):
    """Where a number stands, and the scale it is on."""

    after: str | None = None
    low: float | None = None
    high: float | None = None


class F1Options(Value):
    """The word of the class whose F1 it is."""

    positive: str


class CorrelationOptions(Value):
    """What an answer that cannot be read counts as: the mean of the training targets says nothing of an example."""

    unreadable: float


@dataclass(frozen=True)
class Kind:
    """A kind of answer: how it is read, what counts where nothing is said, and how long an answer may be in tokens."""

    options: type[Value]
    reader: Callable[[Sequence[str], Any], Reader]
    metrics: tuple[str, ...]
    max_new_tokens: int


@dataclass(frozen=True)
class Answers:
    """The answers of a task: their kind, how they are read, and the words they are where there are labels.

    `wanted` says what can be read, such as `number from 0 up to 5`.
    """

    name: str
    kind: Kind
    read: Reader
    words: tuple[str, ...] = ()
    wanted: str = ""


def _number(words: Sequence[str], options: NumberOptions) -> Reader:
    del words
    low = -math.inf if options.low is None else options.low
    high = math.inf if options.high is None else options.high
    within = number_within(low, high)
    if not options.after:
        return within
    behind = number_after(options.after)
    return lambda text: within(behind(text) or "")


def _wanted(name: str, options: Value) -> str:
    if not isinstance(options, NumberOptions):
        return name
    after = f" behind {options.after!r}" if options.after else ""
    low = "" if options.low is None else f" from {options.low:g}"
    high = "" if options.high is None else f" up to {options.high:g}"
    return name + after + low + high


KINDS: Mapping[str, Kind] = {
    "label": Kind(NoOptions, lambda words, options: choice(*words), ("accuracy", "macro_f1"), 8),
    "line": Kind(NoOptions, lambda words, options: first_line, ("exact_match", "token_f1"), 32),
    "text": Kind(NoOptions, lambda words, options: whole, ("exact_match", "token_f1"), 128),
    "number": Kind(NumberOptions, _number, ("accuracy",), 16),
    "code": Kind(NoOptions, lambda words, options: code, ("codebleu",), 256),
}


@dataclass(frozen=True)
class _Count:
    """A metric by its name: the kinds of answer it is for, and how it is made."""

    kinds: tuple[str, ...]
    make: Callable[[Sequence[str], Any], AnyMetric]
    options: type[Value] = NoOptions


_TEXTS = ("line", "text")
COUNTS: Mapping[str, Sequence[_Count]] = {
    "accuracy": (
        _Count(("label", *_TEXTS), lambda words, options: ACCURACY),
        _Count(("number",), lambda words, options: NUMERIC_ACCURACY),
    ),
    "macro_f1": (_Count(("label",), lambda words, options: macro_f1(words)),),
    "f1": (_Count(("label",), lambda words, options: f1(options.positive), F1Options),),
    "matthews_correlation": (_Count(("label",), lambda words, options: matthews(words)),),
    "exact_match": (_Count(_TEXTS, lambda words, options: EXACT_MATCH),),
    "token_f1": (_Count(_TEXTS, lambda words, options: replace(TOKEN_F1, name="token_f1")),),
    "pearson": (_Count(("number",), lambda words, options: pearson(options.unreadable), CorrelationOptions),),
    "spearman": (_Count(("number",), lambda words, options: spearman(options.unreadable), CorrelationOptions),),
    "codebleu": (_Count(("code",), lambda words, options: CODE_BLEU),),
}


def answers_by_name(asked: Entry, words: Sequence[str], where: str) -> Answers:
    """The answers that an entry such as `label` or `{use: number, after: "####"}` asks for.

    Raises:
        UnknownName: there is no such kind, or no such option of it.
        InvalidSpec: an option is of the wrong kind, or labels and kind do not go together.
    """
    if asked.use not in KINDS:
        raise UnknownName("answer", asked.use, KINDS, where)
    if (asked.use == "label") != bool(words):
        has = "declares labels" if words else "declares no labels"
        raise InvalidSpec(f"{where} {has} and reads answers as {asked.use}.", "Labels go with `answer: label` alone.")
    kind = KINDS[asked.use]
    options = kind.options.parse(asked.options, f"{where}, answer {asked.use}")
    read = kind.reader(words, options)
    _refuse_unreadable(words, read, where)
    return Answers(asked.use, kind, read, tuple(words), _wanted(asked.use, options))


def _refuse_unreadable(words: Sequence[str], read: Reader, where: str) -> None:
    for word in words:
        twin = next((other for other in words if other != word and other.casefold() == word.casefold()), None)
        if twin is not None:
            raise InvalidSpec(f"{where}, labels: {word!r} and {twin!r} differ in case alone.", "Take other words.")
        if not word or read(word) != word:
            raise InvalidSpec(
                f"{where}, labels: the word {word!r} cannot be read back.",
                "Let it be one line, with no space around it.",
            )
    if len(words) == 1:
        raise InvalidSpec(f"{where}, labels: {words[0]!r} is the only answer there is.", "Declare another one.")


def metrics_by_name(asked: Sequence[Entry], answers: Answers, where: str) -> tuple[AnyMetric, ...]:
    """The metrics of those names, in their order; those of the kind of answer when none is asked for.

    Raises:
        UnknownName: there is no such metric, or no such option of it.
        InvalidSpec: an option is missing or wrong, a metric is for other answers, or stands twice.
    """
    entries = asked or [Entry(use=name) for name in answers.kind.metrics]
    found = tuple(_metric(entry, answers, where) for entry in entries)
    names = [metric.name for metric in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InvalidSpec(f"{where} asks for the metric {twice[0]!r} twice.", "Keep one of them.")
    return found


def _metric(asked: Entry, answers: Answers, where: str) -> AnyMetric:
    if asked.use not in COUNTS:
        raise UnknownName("metric", asked.use, COUNTS, where)
    count = next((one for one in COUNTS[asked.use] if answers.name in one.kinds), None)
    if count is None:
        fitting = [name for name, counts in COUNTS.items() if any(answers.name in one.kinds for one in counts)]
        raise InvalidSpec(
            f"{where}: {asked.use} does not count answers of the kind {answers.name}.",
            f"Choose from: {', '.join(fitting)}.",
        )
    options = count.options.parse(asked.options, f"{where}, metric {asked.use}")
    if isinstance(options, F1Options) and options.positive not in answers.words:
        raise UnknownName("label", options.positive, answers.words, f"{where}, metric {asked.use}")
    return count.make(answers.words, options)


def usual_chance(metric: AnyMetric, words: Sequence[str]) -> float:
    """What the best of all constant answers scores where every label is as frequent as any other; 0 without labels."""
    scores = (metric.over(metric.statistics(word, (right,)) for right in words) for word in words)
    return max((0.0, *scores))
