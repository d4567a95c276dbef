"""TITLE: what is asked, of what (Authors, year)."""

from pathlib import Path

from peftbench.metrics.classification import ACCURACY
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import Files
from peftbench.tasks._task import Example, Row, Task

HERE = Path(__file__).parent

# The classes as the data writes them (names in the order of their numbers), and the words a model answers with.
LABELS = Labels(names=("spam", "ham"), words=("spam", "fine"))


def ask(row: Row) -> Example:
    """One row as a question. Only `body` may be cut when a context is too short."""
    return Example(
        instruction="Is this message spam or fine? Answer with one word.",
        body=row["text"],
        target=LABELS.word(row["label"]),
    )


TASK = Task(
    # Or a data set of the hub: HubDataset("owner/name", subset=None, mirror="folder below --data-root")
    source=Files(train=HERE / "train.jsonl", test=HERE / "test.jsonl"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY,),
    chance=0.5,
    category="classification",
    licence="unknown",
    citation="Authors. Title. Year.",
    # Two rows with the real column names; they document the columns and are checked.
    specimen=(
        {"text": "You won a prize, send your card number", "label": "spam"},
        {"text": "See you at nine", "label": "ham"},
    ),
    # Raise it when the prompt, `read` or a metric changes, so that old results are not mistaken for new ones.
    version=1,
)
