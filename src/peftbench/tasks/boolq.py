"""BoolQ: yes/no questions that people typed, answered from a passage (Clark et al., 2019; SuperGLUE, 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("False", "True"), words=("no", "yes"))


def ask(row: Row) -> Example:
    """The question, to be answered from the passage."""
    return Example(
        instruction="Read the passage and answer the question with yes or no.",
        body=f"Passage: {row['passage'].strip()}",
        question=f"Question: {row['question'].strip().rstrip('?')}?",
        target=LABELS.word(row["label"]),
        group=row["passage"],
    )


TASK = Task(
    source=HubDataset("aps/super_glue", "boolq", mirror="boolq"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.62,
    category="question answering",
    group="SuperGLUE",
    licence="CC-BY-SA-3.0",
    citation="Clark et al. BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions. NAACL 2019.",
    specimen=(
        {
            "question": "is the old bridge still in use",
            "passage": "The old bridge carries trams today.",
            "idx": 0,
            "label": 1,
        },
        {"question": "do owls hunt at noon", "passage": "Most owls hunt between dusk and dawn.", "idx": 1, "label": 0},
    ),
    version=3,
)
