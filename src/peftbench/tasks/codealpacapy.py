"""CodeAlpacaPy: the instructions of CodeAlpaca that are answered in Python (Chaudhary, 2023)."""

from peftbench.metrics import published
from peftbench.metrics.code import CODE_BLEU
from peftbench.tasks._answer import code, given
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Example, Row, Task


def ask(row: Row) -> Example:
    """What is to be written; input that belongs to it stands below."""
    return Example(
        instruction="Write Python code for this task. Answer with the code alone.",
        body=row["prompt"].strip(),
        target=given(row["response"]),
    )


TASK = Task(
    source=HubDataset(
        "Abzu/CodeAlpacaPython",
        None,
        mirror="codealpaca",
        mirror_columns={"prompt": "{instruction}\n{input}", "response": "{output}"},
        test="test",
    ),
    ask=ask,
    read=code,
    metrics=(CODE_BLEU,),
    published=published.CODE,
    chance=0.0,
    category="text-to-code",
    group="Code",
    licence="CC-BY-NC-4.0",
    citation="Chaudhary. Code Alpaca: An Instruction-following LLaMA model for code generation. 2023.",
    specimen=(
        {
            "prompt": "Write a function that tells whether a year is a leap year.",
            "response": "def leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)",
        },
        {
            "prompt": "Sum the even numbers of the list.\nnumbers = [3, 8, 10]",
            "response": "sum(n for n in numbers if n % 2 == 0)",
        },
    ),
    version=2,
    max_new_tokens=256,
)
