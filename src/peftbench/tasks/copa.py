"""COPA: which of two alternatives is the cause or the effect of a premise? (Roemmele et al., 2011; SuperGLUE, 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("choice1", "choice2"), words=("1", "2"))
ASKED = {"cause": "What was the cause?", "effect": "What happened as a result?"}


def ask(row: Row) -> Example:
    """The more plausible of two alternatives; whether cause or effect is asked stands in the question."""
    asked = row["question"].strip()
    if asked not in ASKED:
        raise ValueError(f"the question {asked!r} is neither cause nor effect")
    options = LABELS.options([row["choice1"], row["choice2"]])
    return Example(
        instruction="Choose the more plausible alternative. Answer 1 or 2.",
        question=f"{row['premise'].strip()} {ASKED[asked]}\n{options}",
        target=LABELS.word(row["label"]),
    )


TASK = Task(
    source=HubDataset("aps/super_glue", "copa", mirror="copa"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.55,
    category="question answering",
    group="SuperGLUE",
    licence="BSD-2-Clause",
    citation="Roemmele, Bejan and Gordon. Choice of Plausible Alternatives. AAAI Spring Symposium 2011.",
    specimen=(
        {
            "premise": "The kettle whistled.",
            "choice1": "The water boiled.",
            "choice2": "The cup broke.",
            "question": "cause",
            "idx": 0,
            "label": 0,
        },
        {
            "premise": "The boy dropped the egg.",
            "choice1": "He ate it.",
            "choice2": "It cracked.",
            "question": "effect",
            "idx": 1,
            "label": 1,
        },
    ),
    version=3,
)
