"""CoLA: would a speaker of English accept a sentence? (Warstadt et al., 2019; GLUE, Wang et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1, matthews
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("unacceptable", "acceptable"), words=("no", "yes"))


def ask(row: Row) -> Example:
    """The grammar of one sentence."""
    return Example(
        instruction="Is this sentence grammatically acceptable English? Answer yes or no.",
        body=row["sentence"].strip(),
        target=LABELS.word(row["label"]),
    )


TASK = Task(
    source=HubDataset("nyu-mll/glue", "cola", mirror="cola"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(matthews(LABELS.words), ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.0,
    category="acceptability classification",
    group="GLUE",
    licence="research use",
    citation="Warstadt, Singh and Bowman. Neural Network Acceptability Judgments. TACL 2019.",
    specimen=(
        {"sentence": "The gardener watered the roses before noon.", "label": 1, "idx": 0},
        {"sentence": "The gardener watered before the roses noon.", "label": 0, "idx": 1},
    ),
    version=2,
)
