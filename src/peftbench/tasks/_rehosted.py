"""The data sets of PEFT-Bench with the columns that its configuration names, built from canonical rows.

Part of them was re-hosted with texts put together beforehand, in the columns `inputs` and `targets`. Whoever has the
canonical rows needs no other copy: each function here says how its text is made, as in the script that published it
(`scripts/peftbench/preprocess_datasets.py` of PEFT-Bench, arXiv 2511.21285), its slips included, for this is what
published numbers were measured with. A target is the text of an answer; a row with several has one after the other.
"""

from __future__ import annotations

import json
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from peftbench.tasks._answer import Labels, NoAnswer
from peftbench.tasks._task import Row

Answers = tuple[str, ...]

FALSE_TRUE = ("False", "True")
# The account that holds what was put together, one subset each; before March 2026 it was one repository each.
REHOSTED, REHOSTED_BEFORE = "kinit/peft-factory", "rbelanec/"
INPUTS, TARGETS = "inputs", "targets"


@dataclass(frozen=True)
class Published:
    """A data set as it was published: where, and the texts of a row.

    `answers` gives what may be trained on, `response` names its column. `inputs` makes the text that was put together;
    without it the columns are the canonical ones. `words` are the classes by number. `group` names the column that
    rows have in common which are not independent. `several` says that a row was published once for each answer.
    """

    answers: Callable[[Row], Answers]
    inputs: Callable[[Row], str] | None = None
    words: tuple[str, ...] = ()
    response: str = TARGETS
    repositories: tuple[tuple[str, str | None], ...] = ()
    group: str | None = None
    several: bool = False

    def text(self, row: Row, column: str) -> str:
        """What stands in a column of the published row; nothing for null.

        Raises:
            KeyError: there is no such column.
            TypeError: it is no text.
        """
        if self.inputs is not None:
            if column != INPUTS:
                raise KeyError(column)
            return self.inputs(row)
        value = row[column]
        if value is not None and not isinstance(value, str):
            raise TypeError(f"the column {column!r} holds a {type(value).__name__}, not a text")
        return value or ""


# ---- answers -------------------------------------------------------------------------------------------------------


def _class(column: str, words: tuple[str, ...], names: tuple[str, ...] = ()) -> Callable[[Row], Answers]:
    """The word of a class, which the data give by number or by name; a hidden one is no answer."""
    labels = Labels(names or words, words)
    return lambda row: (labels.word(row[column]),)


def _text(column: str) -> Callable[[Row], Answers]:
    def answers(row: Row) -> Answers:
        if not isinstance(row[column], str):
            raise TypeError(f"the column {column!r} holds a {type(row[column]).__name__}, not a text")
        return (row[column],)

    return answers


def similarity(row: Row) -> Answers:
    """STS-B: the score as Python writes a float of 32 bits, `3.799999952316284` for 3.8."""
    score = row["label"]
    if score is None or score == -1:
        raise NoAnswer
    if not 0 <= score <= 5:
        raise ValueError(f"the score {score!r} is not between 0 and 5")
    return (str(struct.unpack("<f", struct.pack("<f", score))[0]),)


def equation(row: Row) -> Answers:
    """SVAMP: `( 8.0 - 3.0 ) = 5`."""
    return (f"{row['Equation']} = {row['Answer']}",)


def entities(row: Row) -> Answers:
    """ReCoRD: each answer as it stands; `<unk>` where there is none."""
    return tuple(row["answers"]) or ("<unk>",)


# Half of a character as JSON writes it; two backslashes are one that belongs to what stands behind it.
_HALF = re.compile(r"(\\\\)|\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def solutions(row: Row) -> Answers:
    r"""APPS: each program; an empty one where there is none.

    The script read the list as Python does, in which `\ud83d\ude00` are two halves of a character, and removed halves.
    """
    found = json.loads(_HALF.sub(lambda half: half.group(1) or "", row["solutions"])) if row["solutions"] else []
    if not isinstance(found, list) or not all(isinstance(program, str) for program in found):
        raise ValueError("the solutions are no list of texts")
    return tuple(found) or ("",)


# ---- texts that were put together ----------------------------------------------------------------------------------


def multirc(row: Row) -> str:
    """Paragraph, question and the answer that is proposed."""
    return f"Paragraph: {row['paragraph']}\n\nQuestion: {row['question']}\n\nAnswer: {row['answer']}"


def record(row: Row) -> str:
    """The points of a story become sentences of it."""
    passage = re.sub(r"(\.|\?|\!|\"|\')\n@highlight\n", r"\1 ", row["passage"])
    passage = passage.replace("\n@highlight\n", ". ")
    return f"Query: {row['query']}\n\nEntities: {', '.join(row['entities'])}\n\nPassage: {passage}"


def wic(row: Row) -> str:
    """Both sentences and the word."""
    return f"Sentence1: {row['sentence1']}\n\nSentence2: {row['sentence2']}\n\nWord: {row['word']}"


def wsc(row: Row) -> str:
    """The text with the first span between `*` and the second between `#`, as T5 marks them.

    A mark makes two words more, so the second span moves where it stands behind the first, whether or not that one was
    found.
    """
    first, second = row["span1_index"], row["span2_index"]
    text = _marked(row["text"], first, row["span1_text"], "*")
    return _marked(text, second + 2 * (first < second), row["span2_text"], "#")


def _marked(text: str, place: int, span: str, mark: str) -> str:
    """A text with the span that begins with its word number `place` marked; as it was where it is not found there.

    The span stands in the pattern as it is written, as in T5: a dot in it is any character. What is no pattern at all
    (an open bracket) is not found.
    """
    with warnings.catch_warnings():
        # Python warns of brackets that it may read otherwise one day.
        warnings.simplefilter("ignore")
        try:
            return re.sub(rf"^((?:\S+\s){{{place}}})({span})", rf"\1{mark} \2 {mark}", text)
        except (re.error, OverflowError):
            return text


def copa(row: Row) -> str:
    """Whether the cause or the effect is asked for is not said."""
    return f"Premise: {row['premise']}\n\nChoice1: {row['choice1']}\n\nChoice2: {row['choice2']}"


def mmlu(row: Row) -> str:
    """The subject is not said."""
    return f"Question: {row['question']}\n\nChoices:\n{_named('ABCD', row['choices'])}"


def piqa(row: Row) -> str:
    """The goal is called a question."""
    return f"Question: {row['goal']}\n\nSolution1: {row['sol1']}\nSolution2: {row['sol2']}"


def siqa(row: Row) -> str:
    """Context, question and three choices."""
    choices = _named("ABC", [row["answerA"], row["answerB"], row["answerC"]])
    return f"Context: {row['context']}\n\nQuestion: {row['question']}\n\nChoices:\n{choices}"


def hellaswag(row: Row) -> str:
    """A comma stands behind the context, and its second part has lost its capitals."""
    names = [f"Ending{number}" for number in range(1, 5)]
    return f"Sentence: {row['ctx_a']} {row['ctx_b'].capitalize()},\n\n{_named(names, row['endings'])}"


def winogrande(row: Row) -> str:
    """Both options are called the first."""
    return f"Sentence: {row['sentence']}\n\nOption1: {row['option1']}\nOption1: {row['option2']}"


def openbookqa(row: Row) -> str:
    """Question and four choices."""
    return f"Question: {row['question_stem']}\n\nChoices:\n{_named('ABCD', row['choices']['text'])}"


def math_qa(row: Row) -> str:
    """The options in one line, as the data have them."""
    return f"Problem: {row['Problem']}\n\nOptions: {row['options']}"


def svamp(row: Row) -> str:
    """Story and question in one."""
    return f"Question: {row['question_concat']}"


def apps(row: Row) -> str:
    """The problem without halves of characters; the code that a solution has to begin with is not said."""
    return str(row["question"].encode("utf-8", errors="ignore").decode("utf-8"))


def _named(names: str | list[str], texts: list[str]) -> str:
    if len(texts) != len(names):
        raise ValueError(f"there are {len(texts)} options, not {len(names)}")
    return "\n".join(f"{name}: {text}" for name, text in zip(names, texts, strict=True))


# ---- the data sets -------------------------------------------------------------------------------------------------


def _glue(name: str, *words: str, group: str | None = None) -> Published:
    return Published(
        _class("label", words), words=words, response="label", repositories=(("nyu-mll/glue", name),), group=group
    )


def _super_glue(name: str, *words: str, group: str | None = None) -> Published:
    where = (("super_glue", name), ("aps/super_glue", name))
    return Published(_class("label", words), words=words, response="label", repositories=where, group=group)


def _put_together(
    inputs: Callable[[Row], str],
    column: str,
    words: tuple[str, ...],
    names: tuple[str, ...] = (),
    group: str | None = None,
) -> Published:
    return Published(_class(column, words, names), inputs, words, group=group)


ABCD = ("A", "B", "C", "D")
# Classes stand in the order of their numbers: the second of two is the one whose F1 was published.
PUBLISHED: Mapping[str, Published] = {
    "mnli": _glue("mnli", "entailment", "neutral", "contradiction", group="premise"),
    "qqp": _glue("qqp", "not_duplicate", "duplicate"),
    "qnli": _glue("qnli", "entailment", "not_entailment"),
    "sst2": _glue("sst2", "negative", "positive"),
    "stsb": Published(similarity, response="label", repositories=(("nyu-mll/glue", "stsb"),)),
    "mrpc": _glue("mrpc", "not_equivalent", "equivalent"),
    "rte": _glue("rte", "entailment", "not_entailment", group="sentence1"),
    "cola": _glue("cola", "unacceptable", "acceptable"),
    "multirc": _put_together(multirc, "label", FALSE_TRUE, group="paragraph"),
    "record": Published(entities, record, group="passage", several=True),
    "boolq": _super_glue("boolq", *FALSE_TRUE, group="passage"),
    "wic": _put_together(wic, "label", FALSE_TRUE),
    "wsc": _put_together(wsc, "label", FALSE_TRUE, group="text"),
    "cb": _super_glue("cb", "entailment", "contradiction", "neutral"),
    "copa": _put_together(copa, "label", ("choice1", "choice2")),
    "mmlu": _put_together(mmlu, "answer", ABCD),
    "piqa": _put_together(piqa, "label", ("solution1", "solution2")),
    "siqa": _put_together(siqa, "label", ABCD[:3], ("1", "2", "3")),
    "hellaswag": _put_together(
        hellaswag, "label", ("ending1", "ending2", "ending3", "ending4"), ("0", "1", "2", "3"), group="ctx_a"
    ),
    "winogrande": _put_together(winogrande, "answer", ("option1", "option2"), ("1", "2")),
    "openbookqa": _put_together(openbookqa, "answerKey", ABCD),
    "math_qa": _put_together(math_qa, "correct", ("a", "b", "c", "d", "e")),
    "gsm8k": Published(_text("answer"), response="answer", repositories=(("openai/gsm8k", "main"),)),
    "svamp": Published(equation, svamp),
    "conala": Published(
        _text("snippet"), response="snippet", repositories=(("neulab/conala", "curated"), (REHOSTED, "conala"))
    ),
    "codealpacapy": Published(_text("response"), response="response", repositories=(("Abzu/CodeAlpacaPython", None),)),
    "apps": Published(solutions, apps, group="question", several=True),
}
# What the best constant answer scores by the published metric: counted over the evaluated split where answers are
# classes, and the best that was found elsewhere (docs/decisions/rows.md). Any true equation solves SVAMP.
CHANCE: Mapping[str, float] = {
    "mnli": 0.17,
    "qqp": 0.54,
    "qnli": 0.67,
    "sst2": 0.67,
    "stsb": 0.0,
    "mrpc": 0.81,
    "rte": 0.64,
    "cola": 0.82,
    "multirc": 0.6,
    "record": 0.08,
    "boolq": 0.77,
    "wic": 0.67,
    "wsc": 0.54,
    "cb": 0.22,
    "copa": 0.62,
    "mmlu": 0.1,
    "piqa": 0.67,
    "siqa": 0.17,
    "hellaswag": 0.1,
    "winogrande": 0.67,
    "openbookqa": 0.11,
    "math_qa": 0.07,
    "gsm8k": 0.03,
    "svamp": 1.0,
    "conala": 0.31,
    "codealpacapy": 0.27,
    "apps": 0.28,
}


def published_in(repository: str, subset: str | None) -> str | None:
    """Which of the data sets a subset of a repository is; None where it is none of them."""
    if repository == REHOSTED:
        return subset if subset in PUBLISHED else None
    if repository.startswith(REHOSTED_BEFORE):
        name = repository.removeprefix(REHOSTED_BEFORE)
        return name if name in PUBLISHED else None
    return next((name for name, one in PUBLISHED.items() if (repository, subset) in one.repositories), None)
