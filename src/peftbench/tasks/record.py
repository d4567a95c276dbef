"""ReCoRD: which entity of a news story fills the gap of a sentence about it? (Zhang et al., 2018; SuperGLUE, 2019)."""

from peftbench.metrics import published
from peftbench.metrics.exact import EXACT_MATCH, TOKEN_F1
from peftbench.tasks._answer import NoAnswer, first_line
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task


def ask(row: Row) -> Example:
    """One question a gap; an entity may be written in several ways, and each counts as right."""
    answers = tuple(_line(name) for name in row["answers"] or () if name.strip())
    if not answers:
        raise NoAnswer
    entities = dict.fromkeys(_line(name) for name in row["entities"])
    story, *points = row["passage"].split("\n@highlight\n")
    return Example(
        instruction="Read the story. Which of the entities does @placeholder stand for? Answer with the entity alone.",
        body="\n".join([story.strip(), *(f"- {point.strip()}" for point in points)]),
        question=f"Entities: {'; '.join(entities)}\nSentence: {row['query'].strip()}",
        target=answers[0],
        accepted=answers,
        group=row["passage"],
    )


def _line(name: str) -> str:
    return " ".join(name.split())


TASK = Task(
    source=HubDataset("aps/super_glue", "record", mirror="record"),
    ask=ask,
    read=first_line,
    metrics=(TOKEN_F1, EXACT_MATCH),
    published=published.RECORD,
    chance=0.0,
    category="question answering",
    group="SuperGLUE",
    licence="research use",
    citation="Zhang et al. ReCoRD: Bridging the Gap between Human and Machine Commonsense Reading Comprehension. "
    "arXiv 1810.12885, 2018.",
    specimen=(
        {
            "passage": "Ada Brook opened the bridge on Friday.\n@highlight\nThe bridge over the Lorne took four years",
            "query": "In her speech @placeholder thanked the builders",
            "entities": ["Ada Brook", "Brook", "Lorne"],
            "answers": ["Ada Brook", "Brook"],
            "idx": {"passage": 0, "query": 0},
        },
        {
            "passage": "The Lorne froze in January, and Kell was cut off.\n@highlight\nFood came by air",
            "query": "For two weeks nobody could leave @placeholder",
            "entities": ["Kell", "Lorne"],
            "answers": ["Kell"],
            "idx": {"passage": 1, "query": 0},
        },
    ),
    version=2,
    max_new_tokens=24,
)
