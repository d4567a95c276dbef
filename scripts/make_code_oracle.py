"""Writes tests/golden/code_bleu.json: what the package `codebleu` says of the code in `code_pairs.py`.

The package needs an old tree-sitter, so it has an environment of its own, of Python 3.11 (later ones remove comments
in another way):

    python3.11 -m venv oracle
    oracle/bin/pip install codebleu==0.7.0 tree-sitter==0.22.3 tree-sitter-python==0.21.0
    oracle/bin/python scripts/make_code_oracle.py

The package puts names in the order of a Python set, which differs from process to process, and with it a few scores.
So it is run under several orders as it is, and once with sets that keep the order in which things came; the latter is
what is written. Where all orders agree, that has to be the same, else nothing is written.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from code_pairs import GUESSED, PAIRS

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "code_bleu.json"
HASH_SEEDS = range(1, 9)
CORPORA = 20
PACKAGES = ("codebleu", "tree-sitter", "tree-sitter-python")
NAMES = ("codebleu", "ngram_match_score", "weighted_ngram_match_score", "syntax_match_score", "dataflow_match_score")


class Ordered(dict[Any, None]):
    """As much of a set as the package needs, in the order in which things came."""

    def __init__(self, things: Any = ()) -> None:
        super().__init__(dict.fromkeys(things))

    def add(self, thing: Any) -> None:
        """Add one."""
        self[thing] = None


def corpora() -> list[list[int]]:
    """Which pairs are a corpus: each one, all of them, and some of them."""
    rng = random.Random(20)
    sure = [index for index, (about, _, _) in enumerate(PAIRS) if not about.startswith(GUESSED)]
    some = [sorted(rng.sample(sure, rng.randint(2, len(sure) // 2))) for _ in range(CORPORA)]
    return [*([index] for index in range(len(PAIRS))), sure, *some]


def measure(*, ordered: bool) -> list[list[float]]:
    """The five scores of every corpus."""
    import codebleu.dataflow_match
    import codebleu.parser.DFG

    logging.disable(logging.WARNING)  # it warns of references without data flow
    if ordered:
        for module in (codebleu.dataflow_match, codebleu.parser.DFG):
            module.set = Ordered
    found = []
    for members in corpora():
        references = [PAIRS[index][2] for index in members]
        scores = codebleu.calc_codebleu(references, [PAIRS[index][1] for index in members], lang="python")
        found.append([scores[name] for name in NAMES])
    return found


def measured(order: str) -> list[list[float]]:
    """The scores under one order of sets; a process each, for it is chosen when Python starts."""
    seed = "0" if order == "ordered" else order
    command = [sys.executable, __file__, order]
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True)  # noqa: S603
    found: list[list[float]] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and write."""
    written = measured("ordered")
    orders = [measured(str(seed)) for seed in HASH_SEEDS]
    rows = []
    for members, scores, *others in zip(corpora(), written, *orders, strict=True):
        settled = all(other == others[0] for other in others)
        if settled and others[0] != scores:
            sys.exit(f"{members}: {others[0]} under all orders, {scores} in the order of appearance")
        rows.append({"members": members, "scores": scores, "settled": settled})
    golden = {
        "made_with": {"python": "{}.{}".format(*sys.version_info), **{name: version(name) for name in PACKAGES}},
        "pairs": [{"about": about, "candidate": one, "references": others} for about, one, others in PAIRS],
        "corpora": rows,
    }
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    print(
        f"{len(PAIRS)} pairs, {sum(not row['settled'] for row in rows)} of {len(rows)} scores hang on the order of sets"
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(measure(ordered=sys.argv[1] == "ordered")))
    else:
        main()
