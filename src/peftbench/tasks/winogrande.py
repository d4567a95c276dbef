"""WinoGrande: which of two names fills the gap? (Sakaguchi et al., 2020)."""

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("1", "2"), words=("1", "2"))


def ask(row: Row) -> Example:
    """The sentence with its gap, and two options. Many sentences have a twin with the same options."""
    return Example(
        instruction="Which option fills the gap _ in the sentence? Answer 1 or 2.",
        body=f"Sentence: {row['sentence'].strip()}",
        question=LABELS.options([row["option1"], row["option2"]]),
        target=LABELS.word(row["answer"]),
        group="; ".join(sorted((row["option1"], row["option2"]))),
    )


TASK = Task(
    source=HubDataset("allenai/winogrande", "winogrande_xl", mirror="winogrande"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.5,
    category="commonsense reasoning",
    group="Others",
    licence="CC-BY-4.0",
    citation="Sakaguchi et al. WinoGrande: An Adversarial Winograd Schema Challenge at Scale. AAAI 2020.",
    specimen=(
        {
            "sentence": "Tom asked Paul for a lift because _ had sold his car.",
            "option1": "Tom",
            "option2": "Paul",
            "answer": "1",
        },
        {
            "sentence": "The rope held but the hook did not, for the _ was rusty.",
            "option1": "rope",
            "option2": "hook",
            "answer": "2",
        },
    ),
    version=2,
)
