"""MRPC: do two sentences from the news say the same? (Dolan and Brockett, 2005; GLUE, Wang et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, f1, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("not_equivalent", "equivalent"), words=("no", "yes"))


def ask(row: Row) -> Example:
    """Whether one sentence is a paraphrase of the other."""
    return Example(
        instruction="Do these two sentences mean the same? Answer yes or no.",
        body=f"Sentence 1: {row['sentence1'].strip()}",
        question=f"Sentence 2: {row['sentence2'].strip()}",
        target=LABELS.word(row["label"]),
    )


TASK = Task(
    source=HubDataset("nyu-mll/glue", "mrpc", mirror="mrpc", others=("test",)),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(f1("yes"), ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.81,
    category="paraphrase classification",
    group="GLUE",
    licence="Microsoft Research's terms",
    citation="Dolan and Brockett. Automatically Constructing a Corpus of Sentential Paraphrases. IWP 2005.",
    specimen=(
        {
            "sentence1": "The council voted on Tuesday to close the old mill .",
            "sentence2": "On Tuesday , the council decided that the old mill would close .",
            "label": 1,
            "idx": 0,
        },
        {
            "sentence1": "The mill employed ninety people .",
            "sentence2": "Ninety people came to see the mill .",
            "label": 0,
            "idx": 1,
        },
    ),
    version=2,
)
