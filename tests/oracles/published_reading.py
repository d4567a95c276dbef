r"""What the released scoring script of the published benchmark computes, rebuilt from a written account of it alone.

The account is the project's protocol text: section 1.1 (which dataset has which metrics), 1.4 (labels), 1.5 (metrics)
and 6 (defects, all of them kept here on purpose). Nothing of the project's own metrics was read for it, so the two can
be held against each other. Scores are fractions as the script writes them; only `headline` multiplies by 100.

Choices where the text is silent
--------------------------------
All text
 1. The order is that of the sentence in section 1.3: lower-case, strip, then cut after the last `</think>\n\n`; what is
    left is not stripped again, so `</think>\n\n positive` is wrong, and a text that ends in the mark keeps it, because
    stripping took its line ends away.
 2. Labels are cut as predictions are. No rows at all is an error.
Classes
 3. The cast to 16 characters is numpy's `<U16`, which also drops NUL characters at the end of a text. It happens in
    `exact_match`, `f1` and `macro_f1`, and nowhere else.
 4. The order of the label lists is that of section 1.4; "label 1" is the second entry, counted from 0 as D14 does.
    This decides what an invalid prediction becomes under macro F1 (`neutral` on MNLI, `contradiction` on CB).
 5. "Labels that occur" are those of the targets and of the replaced predictions together (scikit-learn's default).
 6. F1 without a true or predicted positive is 0.0 (scikit-learn's default, without its warning).
 7. A gold text outside the two labels is an error under `f1` (scikit-learn refuses three classes). Under `macro_f1` it
    is one more class, and a prediction equal to it is still invalid.
 8. `exact_match` looks at the predictions as they came, before invalid ones are replaced.
Correlations (STS-B)
 9. `float()` is Python's: `nan`, `inf`, `1_000`, `1e5` and digits of other scripts are numbers, `0x10` and `1,5`
    are not. Nothing is clipped or rounded. A gold text that is no number is -1.0, too.
10. A constant column, or `nan` anywhere, gives `nan` for both; `inf` gives `nan` for Pearson only, as Spearman ranks
    it. Fewer than two rows are an error.
ReCoRD
11. The key is the query's index alone. Each row is scored against its own answers. No answers is an error (the maximum
    of nothing). Two texts that are both empty once normalised match exactly but have F1 0.
GSM8K
12. `accuracy` is a share, `format_errors` a number of rows; a row with both sides unreadable counts once.
13. Without `####` a side is missing, even if the whole text is a number. A dollar sign, a unit or a second line after
    the number makes it unreadable. "Within" includes 1e-6 itself. `nan` and `inf` are readable and never correct.
SVAMP
14. `accuracy` is a share; `math_correct`, `gold_exact_equation`, `format_errors` and `total` are numbers of rows. What
    is no format error and not correct is just wrong.
15. The left side has to open and close with one pair that belong together: `((1+1)) = 2` is fine, `(1)+(1) = 2` is not.
16. It is then read as a Python expression of integers, decimals (`0x10` and `1_0` as well), the six operators and the
    signs + and -; a number alone is fine. Powers, names, commas and calls are format errors, and so are a division by
    zero, a result too large for a float and an expression too deep for Python.
17. The right side is whatever `float()` takes. "Within" includes 1e-6 itself; `nan` and `inf` are never equal.
18. `gold_exact_equation` compares both whole texts after the broken pattern of section 6.3 (a backslash followed by one
    s or more) was removed; white space therefore counts. It does not ask whether the equation is well formed.
Code
19. References and predictions go to CodeBLEU as two flat lists, empty texts included; an APPS row holds one solution.
    The five numbers have the names of the `codebleu` package.
Exploding
20. ReCoRD: answers and entities keep their order and their repetitions. APPS: solutions are read as Python source (not
    JSON, so an escaped pair of surrogates is two lone ones); surrogates are removed after that, from question and
    solution alike.
"""

from __future__ import annotations

import ast
import operator
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]
from sklearn.metrics import f1_score

from oracles.published_rows import KIND, LABELS, Key, Kind, PublishedRow

CodeBleu = Callable[[list[str], list[str]], Mapping[str, float]]
Texts = Sequence[str]
Number = int | float

CODE_SCORES = (
    "codebleu",
    "ngram_match_score",
    "weighted_ngram_match_score",
    "syntax_match_score",
    "dataflow_match_score",
)
# Section 1.1, columns "metrics written" and "headline".
METRICS: dict[Kind, tuple[str, ...]] = {
    "two_classes": ("f1", "exact_match"),
    "many_classes": ("macro_f1", "exact_match"),
    "similarity": ("pearsonr", "spearmanr"),
    "record": ("f1", "exact_match"),
    "gsm8k": ("accuracy", "format_errors"),
    "svamp": ("accuracy", "math_correct", "gold_exact_equation", "format_errors", "total"),
    "code": CODE_SCORES,
}
HEADLINE: dict[str, str] = {dataset: METRICS[kind][0] for dataset, kind in KIND.items()}

THINK_END = "</think>\n\n"
TOLERANCE = 1e-6
SIGNS: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def published(dataset: str, rows: Sequence[PublishedRow], code_bleu: CodeBleu | None = None) -> dict[str, float]:
    """All metrics the released script writes for this dataset (sections 1.1 and 1.5)."""
    if not rows:
        raise ValueError("there are no rows to score")
    targets = [read(row.label) for row in rows]
    predictions = [read(row.predict) for row in rows]
    match KIND[dataset]:
        case "similarity":
            return correlations(targets, predictions)
        case "record":
            return record([row.key for row in rows], [row.answers for row in rows], predictions)
        case "gsm8k":
            return gsm8k(targets, predictions)
        case "svamp":
            return svamp(targets, predictions)
        case "code":
            return code(targets, predictions, code_bleu)
    return classes(targets, predictions, LABELS[dataset])


def headline(dataset: str, scores: Mapping[str, float]) -> float:
    """The one number of a dataset, in percent (section 1.5)."""
    return 100 * scores[HEADLINE[dataset]]


def read(text: str) -> str:
    """What is left of a text before any metric looks at it (section 1.3)."""
    return text.lower().strip().rpartition(THINK_END)[2]


def classes(targets: Texts, predictions: Texts, labels: tuple[str, ...]) -> dict[str, float]:
    """F1 or macro F1, by the number of labels, and the exact match beside it (section 1.1)."""
    exact = exact_match(targets, predictions)
    if len(labels) == 2:
        return {"f1": f1(targets, predictions, labels), "exact_match": exact}
    return {"macro_f1": macro_f1(targets, predictions, labels), "exact_match": exact}


def exact_match(targets: Texts, predictions: Texts) -> float:
    """The share of rows whose first 16 characters agree (section 1.5)."""
    return float(np.mean(_cut(targets) == _cut(predictions)))


def f1(targets: Texts, predictions: Texts, labels: tuple[str, ...]) -> float:
    """F1 of the second label, every invalid prediction turned into the wrong label first (section 1.5, D13, D14)."""
    gold, guess = _cut(targets), _cut(predictions)
    if not np.isin(gold, labels).all():
        raise ValueError(f"a gold label is none of {labels}")
    wrong = np.where(gold == labels[0], labels[1], labels[0])
    guess = np.where(np.isin(guess, labels), guess, wrong)
    return float(f1_score(gold, guess, pos_label=labels[1], zero_division=0.0))


def macro_f1(targets: Texts, predictions: Texts, labels: tuple[str, ...]) -> float:
    """The mean of the F1 of all labels that occur, invalid predictions turned into label 1 or else 0 (section 1.5)."""
    gold, guess = _cut(targets), _cut(predictions)
    wrong = np.where(gold == labels[1], labels[0], labels[1])
    guess = np.where(np.isin(guess, labels), guess, wrong)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many different gold texts make scikit-learn suspect a regression
        return float(f1_score(gold, guess, average="macro", zero_division=0.0))


def _cut(texts: Texts) -> NDArray[np.str_]:
    return np.array(texts, dtype="<U16")


def correlations(targets: Texts, predictions: Texts) -> dict[str, float]:
    """Pearson's and Spearman's coefficient, a text that is no number standing for -1 (section 1.5)."""
    if len(targets) < 2:
        raise ValueError("a correlation needs two rows")
    gold, guess = [[_number(text, -1.0) for text in side] for side in (targets, predictions)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # constant columns and numbers that are not finite
        return {
            "pearsonr": float(stats.pearsonr(gold, guess)[0]),
            "spearmanr": float(stats.spearmanr(gold, guess)[0]),
        }


def _number(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


def record(keys: Sequence[Key], answers: Sequence[tuple[str, ...]], predictions: Texts) -> dict[str, float]:
    """SuperGLUE's ReCoRD metric: the last prediction of a query stands for all rows of it (section 1.5, D12)."""
    if None in keys:
        raise ValueError("a row of ReCoRD needs the key of its query")
    last = dict(zip(keys, predictions, strict=True))
    guesses = [_normalised(last[key]) for key in keys]
    golds = [[_normalised(answer) for answer in mine] for mine in answers]
    pairs = list(zip(guesses, golds, strict=True))
    return {
        "f1": sum(max(_overlap(guess, gold) for gold in mine) for guess, mine in pairs) / len(pairs),
        "exact_match": sum(guess in mine for guess, mine in pairs) / len(pairs),
    }


def _normalised(text: str) -> str:
    """As SQuAD does it: no capitals, no ASCII punctuation, no articles, single spaces."""
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _overlap(guess: str, gold: str) -> float:
    """F1 of the words two texts have in common, each counted as often as both have it."""
    left, right = guess.split(), gold.split()
    common = (Counter(left) & Counter(right)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(left), common / len(right)
    return 2 * precision * recall / (precision + recall)


def gsm8k(targets: Texts, predictions: Texts) -> dict[str, float]:
    """Are the numbers after the last `####` the same (section 1.5)?"""
    pairs = [(_marked(gold), _marked(guess)) for gold, guess in zip(targets, predictions, strict=True)]
    readable = [(gold, guess) for gold, guess in pairs if gold is not None and guess is not None]
    correct = sum(abs(gold - guess) <= TOLERANCE for gold, guess in readable)
    return {"accuracy": correct / len(pairs), "format_errors": float(len(pairs) - len(readable))}


def _marked(text: str) -> float | None:
    _, mark, end = text.rpartition("####")
    try:
        return float(end.replace(",", "").replace("%", "")) if mark else None
    except ValueError:
        return None


def svamp(targets: Texts, predictions: Texts) -> dict[str, float]:
    """Does the predicted equation hold in itself (section 1.5)? The gold equation does not matter for that (D3)."""
    verdicts = [_holds(text) for text in predictions]
    same = sum(_spaced(gold) == _spaced(guess) for gold, guess in zip(targets, predictions, strict=True))
    return {
        "accuracy": verdicts.count(True) / len(verdicts),
        "math_correct": float(verdicts.count(True)),
        "gold_exact_equation": float(same),
        "format_errors": float(verdicts.count(None)),
        "total": float(len(verdicts)),
    }


def _holds(equation: str) -> bool | None:
    """Whether left is right; None if this is no equation."""
    sides = [side.strip() for side in equation.split("=")]
    if len(sides) != 2 or not _enclosed(sides[0]):
        return None
    try:
        return abs(_value(sides[0]) - float(sides[1])) <= TOLERANCE
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None


def _enclosed(text: str) -> bool:
    """Whether the first character is a parenthesis that the last one closes."""
    depth, closed_at = 0, []
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            closed_at.append(place)
    return text.startswith("(") and closed_at == [len(text) - 1]


def _value(expression: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python has opinions on texts like `1or 2`
        return float(_node_value(ast.parse(expression, mode="eval").body))


def _node_value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=sign) if type(sign) in SIGNS:
            return SIGNS[type(sign)](_node_value(node.operand))
        case ast.BinOp(op=op) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_node_value(node.left), _node_value(node.right))
    raise ValueError("this is no arithmetic")


def _spaced(equation: str) -> str:
    """Meant to remove white space; the pattern is a raw string with one backslash too many (section 6.3)."""
    return re.sub(r"\\s+", "", equation)


def code(targets: Texts, predictions: Texts, code_bleu: CodeBleu | None) -> dict[str, float]:
    """CodeBLEU of lower-cased text (section 1.5, D21)."""
    if code_bleu is None:
        raise ValueError("scoring code needs the CodeBLEU function")
    scores = code_bleu(list(targets), list(predictions))
    return {name: float(scores[name]) for name in CODE_SCORES}
