"""SST-2: is a phrase from a film review positive or negative? (Socher et al., 2013; GLUE, Wang et al., 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("negative", "positive"), words=("negative", "positive"))


def ask(row: Row) -> Example:
    """The sentiment of one phrase."""
    return Example(
        instruction="Is the sentiment of this film review positive or negative? Answer with one word.",
        body=row["sentence"].strip(),
        target=LABELS.word(row["label"]),
    )


TASK = Task(
    source=HubDataset("nyu-mll/glue", "sst2", mirror="sst2"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.51,
    category="sentiment classification",
    group="GLUE",
    licence="research use",
    citation="Socher et al. Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank. EMNLP 2013.",
    specimen=(
        {"sentence": "a warm and funny evening at the cinema ", "label": 1, "idx": 0},
        {"sentence": "two hours that feel like four ", "label": 0, "idx": 1},
    ),
    version=3,
)
