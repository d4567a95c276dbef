"""RTE: does a text entail a statement? (Dagan et al., 2006 and later challenges; GLUE, Wang et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("entailment", "not_entailment"), words=("yes", "no"))


def ask(row: Row) -> Example:
    """Whether the statement follows from the text."""
    return Example(
        instruction="Read the text and decide whether the statement follows from it. Answer yes or no.",
        body=f"Text: {row['sentence1'].strip()}",
        question=f"Statement: {row['sentence2'].strip()}",
        target=LABELS.word(row["label"]),
        group=row["sentence1"],
    )


TASK = Task(
    source=HubDataset("nyu-mll/glue", "rte", mirror="rte"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.53,
    category="natural language inference",
    group="GLUE",
    licence="research use",
    citation="Dagan, Glickman and Magnini. The PASCAL Recognising Textual Entailment Challenge. 2006.",
    specimen=(
        {
            "sentence1": "The harbour froze, so no ship left for a week.",
            "sentence2": "Ships could not leave.",
            "label": 0,
            "idx": 0,
        },
        {
            "sentence1": "The baker sold forty loaves on Monday.",
            "sentence2": "The baker sold cakes.",
            "label": 1,
            "idx": 1,
        },
    ),
    version=3,
)
