"""QQP: do two questions of a forum ask the same? (Iyer et al., 2017; GLUE, Wang et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, f1, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("not_duplicate", "duplicate"), words=("no", "yes"))


def ask(row: Row) -> Example:
    """Whether one answer would do for both questions."""
    return Example(
        instruction="Do these two questions ask the same thing? Answer yes or no.",
        body=f"Question 1: {row['question1'].strip()}",
        question=f"Question 2: {row['question2'].strip()}",
        target=LABELS.word(row["label"]),
    )


TASK = Task(
    source=HubDataset("nyu-mll/glue", "qqp", mirror="qqp"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(f1("yes"), ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.54,
    category="paraphrase classification",
    group="GLUE",
    licence="Quora's terms, not commercial",
    citation="Iyer, Dandekar and Csernai. First Quora Dataset Release: Question Pairs. 2017.",
    specimen=(
        {
            "question1": "How do I keep basil alive in winter?",
            "question2": "What does basil need to survive the winter?",
            "label": 1,
            "idx": 0,
        },
        {
            "question1": "Which stars can be seen from a city?",
            "question2": "Which film stars live in the city?",
            "label": 0,
            "idx": 1,
        },
    ),
    version=2,
)
