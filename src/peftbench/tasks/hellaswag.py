"""HellaSwag: how does the description of an everyday scene go on? (Zellers et al., 2019)."""

import re

from peftbench.metrics import published
from peftbench.metrics.classification import ACCURACY, macro_f1
from peftbench.tasks._answer import Labels
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task

LABELS = Labels(names=("0", "1", "2", "3"), words=("A", "B", "C", "D"))
_MARK = re.compile(r"\[(?:header|title|step|substeps)\]")
_TITLE = re.compile(r"(?<=[^\s.!?,;:]) \[title\]")


def ask(row: Row) -> Example:
    """The beginning as it was written, and four endings."""
    return Example(
        instruction="Which ending continues the text best? Answer with its letter: A, B, C or D.",
        body=f"{row['activity_label'].strip()}: {_plain(' '.join([row['ctx_a'], row['ctx_b'] or '']))}",
        question=LABELS.options([_plain(ending) for ending in row["endings"]]),
        target=LABELS.word(row["label"]),
        group=row["ctx_a"],
        cut_from="start",
    )


def _plain(text: str) -> str:
    """Without the marks that WikiHow articles left behind; what stands before a title is closed with a full stop."""
    return " ".join(_MARK.sub(" ", _TITLE.sub(".", text)).split())


TASK = Task(
    source=HubDataset("Rowan/hellaswag", None, mirror="hellaswag"),
    ask=ask,
    read=LABELS.read,
    labels=LABELS.words,
    metrics=(ACCURACY, macro_f1(LABELS.words)),
    published=published.classes(LABELS.words),
    chance=0.25,
    category="natural language inference",
    group="Others",
    licence="MIT",
    citation="Zellers et al. HellaSwag: Can a Machine Really Finish Your Sentence? ACL 2019.",
    specimen=(
        {
            "ind": 0,
            "activity_label": "Baking bread",
            "ctx_a": "A man kneads dough on a wooden board.",
            "ctx_b": "he",
            "ctx": "A man kneads dough on a wooden board. he",
            "endings": ["puts it into a bowl to rise.", "rides it home.", "sings it to the oven.", "sells his house."],
            "source_id": "activitynet~v_0",
            "split": "val",
            "split_type": "indomain",
            "label": "0",
        },
        {
            "ind": 1,
            "activity_label": "Home and Garden",
            "ctx_a": "[header] How to store apples [title] Choose sound fruit. [step] Bruised apples rot first.",
            "ctx_b": "",
            "ctx": "[header] How to store apples [title] Choose sound fruit. [step] Bruised apples rot first.",
            "endings": [
                "[substeps] Paint them.",
                "[substeps] Wrap each apple in paper.",
                "[substeps] Call the fire brigade.",
                "[substeps] Freeze the crate in the sun.",
            ],
            "source_id": "wikihow~1",
            "split": "val",
            "split_type": "zeroshot",
            "label": "1",
        },
    ),
    version=2,
)
