"""MNLI: does a statement follow from a text, or contradict it? (Williams et al., 2018; GLUE, Wang et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("entailment", "neutral", "contradiction"), words=("yes", "maybe", "no"))


def ask(row: Row) -> Example:
    """Whether the statement is true given the text."""
    return Example(
        instruction="Given the text, is the statement true? Answer yes, no, or maybe if the text does not tell.",
        body=f"Text: {row['premise'].strip()}",
        question=f"Statement: {row['hypothesis'].strip()}",
        target=LABELS.word(row["label"]),
        group=row["premise"],
    )


TASK = Task(
    source=HubDataset(
        "nyu-mll/glue", "mnli", mirror="mnli", test="validation_matched", others=("validation_mismatched",)
    ),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    published_test="validation_mismatched",
    chance=0.35,
    category="natural language inference",
    group="GLUE",
    licence="OANC, CC-BY-3.0 and CC-BY-SA-3.0, by genre",
    citation="Williams, Nangia and Bowman. A Broad-Coverage Challenge Corpus for Sentence Understanding through "
    "Inference. NAACL 2018.",
    specimen=(
        {
            "premise": "The last ferry left at nine, and we came at ten. ",
            "hypothesis": "We missed the ferry.",
            "label": 0,
            "idx": 0,
        },
        {
            "premise": "She keeps bees behind the school.",
            "hypothesis": "She teaches at the school.",
            "label": 1,
            "idx": 1,
        },
    ),
    version=2,
)
