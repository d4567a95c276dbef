"""CB: is what a speaker embeds in a clause true, false or open? (de Marneffe et al., 2019; SuperGLUE, 2019)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("entailment", "contradiction", "neutral"), words=("yes", "no", "maybe"))


def ask(row: Row) -> Example:
    """Whether the speaker takes the statement to be true."""
    return Example(
        instruction="Given the text, is the statement true? Answer yes, no, or maybe if the text does not tell.",
        body=f"Text: {row['premise'].strip()}",
        question=f"Statement: {row['hypothesis'].strip()}",
        target=LABELS.word(row["label"]),
        cut_from="start",
    )


TASK = Task(
    source=HubDataset("aps/super_glue", "cb", mirror="cb"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.5,
    category="natural language inference",
    group="SuperGLUE",
    licence="research use",
    citation="de Marneffe, Simons and Tonhauser. The CommitmentBank: Investigating projection in naturally occurring "
    "discourse. Sinn und Bedeutung 23, 2019.",
    specimen=(
        {
            "premise": "B: Did he lock the gate? A: I doubt that he locked it.",
            "hypothesis": "he locked the gate",
            "idx": 0,
            "label": 1,
        },
        {
            "premise": "Nora noticed that the kettle was empty. She filled it.",
            "hypothesis": "the kettle was empty",
            "idx": 1,
            "label": 0,
        },
    ),
    version=2,
)
