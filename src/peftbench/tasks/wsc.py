"""WSC: does a pronoun mean the person or thing named? (Levesque et al., 2012; SuperGLUE, Wang et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("False", "True"), words=("no", "yes"))


def ask(row: Row) -> Example:
    """The pronoun is marked with asterisks: it may occur more than once."""
    return Example(
        instruction="Does the pronoun between asterisks refer to the name given? Answer yes or no.",
        body=_marked(row["text"], row["span2_index"], len(row["span2_text"].split())),
        question=f"Does *{row['span2_text']}* refer to {row['span1_text']}?",
        target=LABELS.word(row["label"]),
        group=row["text"],
    )


def _marked(text: str, first: int, count: int) -> str:
    """The words from number `first` on between asterisks."""
    words = text.split(" ")
    if not 0 <= first <= len(words) - count:
        raise ValueError(f"the text has no word number {first}")
    return " ".join([*words[:first], f"*{' '.join(words[first : first + count])}*", *words[first + count :]])


TASK = Task(
    source=HubDataset("aps/super_glue", "wsc.fixed", mirror="wsc"),
    ask=ask,
    read=LABELS.read,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.63,
    category="coreference resolution",
    group="SuperGLUE",
    licence="CC-BY-4.0",
    citation="Levesque, Davis and Morgenstern. The Winograd Schema Challenge. KR 2012.",
    specimen=(
        {
            "text": "The cook thanked the farmer because he had brought the eggs .",
            "span1_index": 3,
            "span1_text": "the farmer",
            "span2_index": 6,
            "span2_text": "he",
            "idx": 0,
            "label": 1,
        },
        {
            "text": "The jug does not fit on the shelf because it is too narrow .",
            "span1_index": 0,
            "span1_text": "The jug",
            "span2_index": 9,
            "span2_text": "it",
            "idx": 1,
            "label": 0,
        },
    ),
    version=1,
)
