"""CoNaLa: one line of Python for what a question asks for, from Stack Overflow (Yin et al., 2018)."""

from peftbench.metrics import published
from peftbench.metrics.code import CODE_BLEU
from peftbench.tasks._answer import code, given
from peftbench.tasks._source import HubDataset, parquet_branch
from peftbench.tasks._task import Example, Row, Task


def ask(row: Row) -> Example:
    """The intent as it was rewritten to name variables and values; as it was asked where it was not."""
    # One row says None in words.
    rewritten = row["rewritten_intent"] not in (None, "", "None")
    return Example(
        instruction="Write Python code that does this. Answer with the code alone.",
        body=row["rewritten_intent" if rewritten else "intent"].strip(),
        target=given(row["snippet"]),
    )


TASK = Task(
    source=HubDataset(
        "neulab/conala",
        "curated",
        mirror="conala",
        test="test",
        sizes=(2_379, 500),
        instead=(parquet_branch("neulab/conala", "curated", test="test"),),
    ),
    ask=ask,
    read=code,
    metrics=(CODE_BLEU,),
    published=published.CODE,
    chance=0.0,
    category="text-to-code",
    group="Code",
    licence="MIT",
    citation="Yin et al. Learning to Mine Aligned Code and Natural Language Pairs from Stack Overflow. MSR 2018.",
    specimen=(
        {
            "question_id": 1,
            "intent": "How to get the longest word of a list?",
            "rewritten_intent": "get the longest word in list `words`",
            "snippet": "max(words, key=len)",
        },
        {
            "question_id": 2,
            "intent": "Python: lines of a file without the newline",
            "rewritten_intent": None,
            "snippet": "[line.rstrip('\\n') for line in open('f.txt')]",
        },
    ),
    version=2,
    max_new_tokens=128,
)
