"""WSC: does a pronoun mean the person or thing named? (Levesque et al., 2012; SuperGLUE, Wang et al., 2019)."""

import re

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("False", "True"), words=("no", "yes"))


def ask(row: Row) -> Example:
    """The pronoun is marked with asterisks: it may occur more than once."""
    # Some spans have a line break in them.
    phrase, pronoun = (" ".join(row[span].split()) for span in ("span1_text", "span2_text"))
    return Example(
        instruction="Does the pronoun between asterisks refer to the phrase given? Answer yes or no.",
        body=_marked(row["text"], pronoun, row["span2_index"]).strip(),
        question=f'Does *{pronoun}* refer to "{phrase}"?',
        target=LABELS.word(row["label"]),
        group=row["text"],
    )


def _marked(text: str, span: str, number: int) -> str:
    """The span between asterisks: of several, the one nearest to the word of that number, for some rows are one off."""
    words = r"\s+".join(map(re.escape, span.split()))
    found = re.finditer(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE)
    nearest = min(found, key=lambda one: abs(text.count(" ", 0, one.start()) - number), default=None)
    if nearest is None:
        raise ValueError(f"the text has no {span!r}")
    return f"{text[: nearest.start()]}*{nearest.group()}*{text[nearest.end() :]}"


TASK = Task(
    source=HubDataset("aps/super_glue", "wsc.fixed", mirror="wsc"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
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
    version=2,
)
