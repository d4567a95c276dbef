"""The texts that were published, each written by hand from the protocol's text (section 1.4) on invented rows."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from oracles.published_reading import published as script
from oracles.published_rows import LABELS, PublishedRow, explode_apps, explode_record
from peftbench import registry
from peftbench.errors import DataProblem, InvalidSpec, UnknownName
from peftbench.evaluation.judge import judge, summarise
from peftbench.metrics import code
from peftbench.record import PUBLISHED as MARK
from peftbench.spec import Suite
from peftbench.tasks._answer import NoAnswer
from peftbench.tasks._rehosted import PUBLISHED, published_in
from peftbench.tasks._reworded import Reworded, read_reworded
from peftbench.tasks._source import HubDataset
from peftbench.tasks._task import Item, Row, Split, Task, items
from peftbench.testing import check_task

# Row, prompt (with query), answer: invented rows, texts typed from the protocol.
TEXTS: Mapping[str, tuple[Row, str, str]] = {
    "mnli": (
        {"premise": "It rains. ", "hypothesis": "It is wet.", "label": 2},
        "It rains. \nIt is wet.",
        "contradiction",
    ),
    "qqp": ({"question1": "Why?", "question2": "How?", "label": 0}, "Why?\nHow?", "not_duplicate"),
    "qnli": ({"question": "Who?", "sentence": "A cat.", "label": 1}, "Who?\nA cat.", "not_entailment"),
    "sst2": ({"sentence": "dull ", "label": 0}, "dull ", "negative"),
    "stsb": ({"sentence1": "A.", "sentence2": "B.", "label": 3.8}, "A.\nB.", "3.799999952316284"),
    "mrpc": ({"sentence1": "A .", "sentence2": "B .", "label": 1}, "A .\nB .", "equivalent"),
    "rte": ({"sentence1": "A.", "sentence2": "B.", "label": 0}, "A.\nB.", "entailment"),
    "cola": ({"sentence": "She sings.", "label": 1}, "She sings.", "acceptable"),
    "multirc": (
        {"paragraph": "Ida met Bo.", "question": "Whom?", "answer": "Bo", "label": 1},
        "Paragraph: Ida met Bo.\n\nQuestion: Whom?\n\nAnswer: Bo",
        "True",
    ),
    "record": (
        {
            "passage": "It snowed.\n@highlight\nThe road\n@highlight\nis 'shut'\n@highlight\nnow",
            "query": "@placeholder is shut",
            "entities": ["Oslo", "Bergen"],
            "answers": ["Bergen"],
        },
        "Query: @placeholder is shut\n\nEntities: Oslo, Bergen\n\nPassage: It snowed. The road. is 'shut' now",
        "Bergen",
    ),
    "boolq": ({"question": "is it", "passage": "It is.", "label": 0}, "is it\nIt is.", "False"),
    "wic": (
        {"sentence1": "A bank.", "sentence2": "The banks.", "word": "bank", "label": 0},
        "Sentence1: A bank.\n\nSentence2: The banks.\n\nWord: bank",
        "False",
    ),
    "wsc": (
        {
            "text": "Tom told Ben that he won .",
            "span1_index": 0,
            "span1_text": "Tom",
            "span2_index": 4,
            "span2_text": "he",
            "label": 1,
        },
        "* Tom * told Ben that # he # won .",
        "True",
    ),
    "cb": ({"premise": "I doubt it.", "hypothesis": "it", "label": 1}, "I doubt it.\nit", "contradiction"),
    "copa": (
        {"premise": "It fell.", "choice1": "It broke.", "choice2": "It sang.", "question": "effect", "label": 0},
        "Premise: It fell.\n\nChoice1: It broke.\n\nChoice2: It sang.",
        "choice1",
    ),
    "mmlu": (
        {"question": "2+2?", "choices": ["1", "2", "3", "4"], "answer": 3, "subject": "maths"},
        "Question: 2+2?\n\nChoices:\nA: 1\nB: 2\nC: 3\nD: 4",
        "D",
    ),
    "piqa": (
        {"goal": "dry hands", "sol1": "towel", "sol2": "water", "label": 1},
        "Question: dry hands\n\nSolution1: towel\nSolution2: water",
        "solution2",
    ),
    "siqa": (
        {"context": "Ida ran.", "question": "Why?", "answerA": "x", "answerB": "y", "answerC": "z", "label": "3"},
        "Context: Ida ran.\n\nQuestion: Why?\n\nChoices:\nA: x\nB: y\nC: z",
        "C",
    ),
    "hellaswag": (
        {"ctx_a": "A man in Rome.", "ctx_b": "then Leo ASKS", "endings": ["a.", "b.", "c.", "d."], "label": "0"},
        "Sentence: A man in Rome. Then leo asks,\n\nEnding1: a.\nEnding2: b.\nEnding3: c.\nEnding4: d.",
        "ending1",
    ),
    "winogrande": (
        {"sentence": "The _ is wet.", "option1": "cat", "option2": "dog", "answer": "2"},
        "Sentence: The _ is wet.\n\nOption1: cat\nOption1: dog",
        "option2",
    ),
    "openbookqa": (
        {"question_stem": "Ice is", "choices": {"text": ["a", "b", "c", "d"], "label": list("ABCD")}, "answerKey": "B"},
        "Question: Ice is\n\nChoices:\nA: a\nB: b\nC: c\nD: d",
        "B",
    ),
    "math_qa": (
        {"Problem": "1 + 1 ?", "options": "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5", "correct": "b"},
        "Problem: 1 + 1 ?\n\nOptions: a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5",
        "b",
    ),
    "gsm8k": ({"question": "How many?", "answer": "1+1=<<1+1=2>>2\n#### 2"}, "How many?", "1+1=<<1+1=2>>2\n#### 2"),
    "svamp": (
        {"question_concat": "8 less 3. How many?", "Equation": "( 8.0 - 3.0 )", "Answer": "5"},
        "Question: 8 less 3. How many?",
        "( 8.0 - 3.0 ) = 5",
    ),
    "conala": ({"rewritten_intent": "sum `x`", "intent": "?", "snippet": "sum(x)"}, "sum `x`", "sum(x)"),
    "codealpacapy": ({"prompt": "Print 1.", "response": "print(1)\n"}, "Print 1.", "print(1)\n"),
    "apps": (
        {"question": "Add up.\n", "solutions": '["a = 1\\n"]', "starter_code": "def f():"},
        "Add up.\n",
        "a = 1\n",
    ),
}
QUERIES = {
    **dict.fromkeys(("stsb", "mrpc", "rte"), ("sentence1", "sentence2")),
    **dict.fromkeys(("mnli", "cb"), ("premise", "hypothesis")),
    "qqp": ("question1", "question2"),
    "qnli": ("question", "sentence"),
    "boolq": ("question", "passage"),
    **dict.fromkeys(("sst2", "cola"), ("sentence", None)),
    "gsm8k": ("question", None),
    "conala": ("rewritten_intent", None),
    "codealpacapy": ("prompt", None),
}


def settings(name: str, **others: Any) -> dict[str, Any]:
    prompt, query = QUERIES.get(name, ("inputs", None))
    asked = {"rows_of": name, "instruction": "Do it.", "prompt": prompt, "response": PUBLISHED[name].response}
    return {**asked, **({} if query is None else {"query": query}), **others}


def task_of(name: str, **others: Any) -> Task:
    return read_reworded(settings(name, **others), "mine.yaml")[0]


def message(task: Task, row: Row) -> str:
    example = task.ask(row)
    return "\n".join(part for part in (example.instruction, example.body, example.question) if part)


def answers(name: str, row: Row) -> tuple[str, ...]:
    return PUBLISHED[name].answers(row)


def test_there_are_27_and_each_is_a_task_of_ours() -> None:
    assert (
        sorted(PUBLISHED)
        == sorted(TEXTS)
        == sorted([*LABELS, *["stsb", "record", "gsm8k", "svamp", "conala", "codealpacapy", "apps"]])
    )
    assert len(PUBLISHED) == 27
    assert PUBLISHED.keys() <= set(registry.names("tasks"))


@pytest.mark.parametrize("name", TEXTS)
def test_message_and_answer(name: str) -> None:
    row, prompt, answer = TEXTS[name]
    example = task_of(name).ask(row)
    assert message(task_of(name), row) == f"Do it.\n{prompt}"
    assert (example.target, example.accepted) == (answer, ())


@pytest.mark.parametrize("name", TEXTS)
def test_the_specimen_of_ours_has_the_columns(name: str) -> None:
    task = task_of(name)
    found = items(task, enumerate(task.specimen), "test")
    assert len(found) == 2
    assert found[0].example.body != found[1].example.body or name == "record"
    assert 0 <= task.chance <= 1
    assert task.metrics == task.published


# What the published protocol does and our own contract does not allow: a correlation that may be undefined, a metric in
# which an answer that looks at nothing is perfect.
BREACHES = {"stsb": ["metrics"], "svamp": ["chance"]}


@pytest.mark.parametrize("name", TEXTS)
def test_the_contract_of_tasks_is_kept(name: str) -> None:
    assert [check.name for check in check_task(task_of(name)) if not check.passed] == BREACHES.get(name, [])


@pytest.mark.parametrize("name", LABELS)
def test_classes_stand_in_the_published_order(name: str) -> None:
    assert tuple(word.lower() for word in PUBLISHED[name].words) == LABELS[name]


# ---- oddities ------------------------------------------------------------------------------------------------------


def wsc(text: str, first: tuple[int, str], second: tuple[int, str]) -> str:
    row = {"text": text, "span1_index": first[0], "span1_text": first[1]}
    return PUBLISHED["wsc"].text({**row, "span2_index": second[0], "span2_text": second[1]}, "inputs")


@pytest.mark.parametrize(
    ("text", "first", "second", "expected"),
    [
        # The second span stands before the first: nothing moves it.
        ("he saw Tom run", (2, "Tom"), (0, "he"), "# he # saw * Tom * run"),
        # Two words; what stands directly behind a span stays there.
        ("The cook saw him.", (0, "The cook"), (3, "him"), "* The cook * saw # him #."),
        # A span that is not there is not marked, and the second one is looked for two words on all the same.
        ("Tom saw him and left", (0, "tom"), (2, "him"), "Tom saw him and left"),
        ("Tom saw him and him", (0, "tom"), (2, "him"), "Tom saw him and # him #"),
        # A dot is any character; a question mark makes what stands before it optional.
        ("Mr Lee saw him", (0, "Mr. Lee"), (3, "him"), "Mr Lee saw him"),
        ("Mr, Lee saw him", (0, "Mr. Lee"), (3, "him"), "* Mr, Lee * saw # him #"),
        ("Al saw him", (0, "Alx?"), (2, "him"), "* Al * saw # him #"),
        # No pattern at all: not found.
        ("a (b saw him", (1, "(b"), (3, "him"), "a (b saw him"),
        ("a [[b saw him", (1, "[[b"), (0, "a"), "# a # [[b saw him"),
        # White space between words is one character.
        ("Tom  saw him", (0, "Tom"), (2, "him"), "* Tom *  saw him"),
        # The sign that stands for a number in the published pattern is only that.
        ("N W saw him", (1, "W"), (3, "him"), "N * W * saw # him #"),
    ],
)
def test_wsc_marks_as_t5_does(text: str, first: tuple[int, str], second: tuple[int, str], expected: str) -> None:
    assert wsc(text, first, second) == expected


@pytest.mark.parametrize(
    ("passage", "expected"),
    [
        ('Done!\n@highlight\nNew?\n@highlight\n"So"\n@highlight\nEnd', 'Done! New? "So" End'),
        ("Done; \n@highlight\nNew", "Done; . New"),
        ("@highlight\nNew\n@highlight", "@highlight\nNew\n@highlight"),
        ("A\n@highlight\n@highlight\nB", "A. @highlight\nB"),
    ],
)
def test_record_points_become_sentences(passage: str, expected: str) -> None:
    row = {"passage": passage, "query": "q", "entities": []}
    assert PUBLISHED["record"].text(row, "inputs") == f"Query: q\n\nEntities: \n\nPassage: {expected}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (r'["x\n", "y\ud83d\ude00z"]', ("x\n", "yz")),
        (r'["a\\ud83d", "\uD800"]', ("a\\ud83d", "")),
        (r'["\\\ud83d\u00e9"]', ("\\é",)),
        ('["x", "x"]', ("x", "x")),
        ("", ("",)),
        ("[]", ("",)),
    ],
)
def test_apps_solutions(written: str, expected: tuple[str, ...]) -> None:
    assert answers("apps", {"solutions": written}) == expected


def test_apps_question_loses_halves_of_characters() -> None:
    assert PUBLISHED["apps"].text({"question": "Add\ud800 up 😀"}, "inputs") == "Add up 😀"


@pytest.mark.parametrize(
    ("score", "text"), [(5, "5.0"), (5.0, "5.0"), (3.799999952316284, "3.799999952316284"), (0, "0.0")]
)
def test_scores_are_floats_of_32_bits(score: float, text: str) -> None:
    assert answers("stsb", {"label": score}) == (text,)


@pytest.mark.parametrize(("name", "row"), [("stsb", {"label": -1}), ("mrpc", {"label": -1}), ("siqa", {"label": ""})])
def test_a_hidden_answer_is_none(name: str, row: Row) -> None:
    with pytest.raises(NoAnswer):
        answers(name, row)


def test_empty_parts_are_left_out() -> None:
    row = {"rewritten_intent": None, "snippet": "x"}
    assert message(task_of("conala"), row) == "Do it."
    pair = {"premise": "", "hypothesis": "b", "label": 0}
    assert message(task_of("mnli", instruction=""), pair) == "b"
    assert message(task_of("mnli"), {**pair, "hypothesis": ""}) == "Do it."


@pytest.mark.parametrize(
    ("name", "row", "words"),
    [
        ("mmlu", {"question": "q", "choices": ["1"], "answer": 0}, "there are 1 options, not 4"),
        ("sst2", {"sentence": 3, "label": 0}, "the column 'sentence' holds a int, not a text"),
        ("sst2", {"text": "a", "label": 0}, "has no column 'sentence'"),
        ("gsm8k", {"question": "q", "answer": None}, "nothing stands in answer"),
        ("apps", {"question": "q", "solutions": "{}"}, "the solutions are no list of texts"),
        ("apps", {"question": "q", "solutions": "__import__('os')"}, "Expecting value"),
        ("stsb", {"sentence1": "a", "sentence2": "b", "label": 7}, "the score 7 is not between 0 and 5"),
    ],
)
def test_a_row_that_cannot_be_rebuilt_is_a_sentence(name: str, row: Row, words: str) -> None:
    with pytest.raises(DataProblem, match="Row test/0") as caught:
        items(task_of(name), [(0, row)], "test")
    assert words in caught.value.message


# ---- where rows are ------------------------------------------------------------------------------------------------


def mirror(folder: Path, name: str, **splits: list[dict[str, Any]]) -> str:
    (folder / name).mkdir(parents=True)
    for split, rows in splits.items():
        with gzip.open(folder / name / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(folder)


def examples(task: Task, split: Split, root: str) -> list[Item]:
    return items(task, enumerate(task.source.rows(split, root, task.source.identity(root))), split)


def test_each_answer_is_trained_on_and_a_question_is_asked_once(tmp_path: Path) -> None:
    row = {**TEXTS["record"][0], "answers": ["Oslo", "Bergen", "Oslo"]}
    root = mirror(tmp_path, "record", train=[{**row, "answers": []}, row], validation=[row])
    task = task_of("record", train_instruction="Learn it.")
    train, test = (examples(task, split, root) for split in ("train", "test"))
    assert [item.example.target for item in train] == ["<unk>", "Oslo", "Bergen", "Oslo"]
    assert [item.id for item in train] == [f"train/{number}" for number in range(4)]
    assert {(item.example.instruction, item.example.accepted) for item in train} == {("Learn it.", ())}
    assert len({item.group for item in train}) == 1
    (one,) = test
    assert (one.example.instruction, one.example.accepted) == ("Do it.", ("Oslo", "Bergen", "Oslo"))


def test_a_row_whose_answers_cannot_be_told_apart_is_told_with_its_place(tmp_path: Path) -> None:
    row = {"question": "q", "solutions": "[1]"}
    root = mirror(tmp_path, "apps", train=[{"question": "q", "solutions": "[]"}, row], validation=[row])
    with pytest.raises(DataProblem, match=r"apps/train\.jsonl\.gz, row 2: the solutions are no list of texts"):
        examples(task_of("apps"), "train", root)


def test_an_empty_instruction_to_train_on_is_kept(tmp_path: Path) -> None:
    row = dict(TEXTS["winogrande"][0])
    root = mirror(tmp_path, "winogrande", train=[row], validation=[row])
    task = task_of("winogrande", train_instruction="")
    assert [examples(task, split, root)[0].example.instruction for split in ("train", "test")] == ["", "Do it."]
    same = task_of("winogrande")
    assert [examples(same, split, root)[0].example.instruction for split in ("train", "test")] == ["Do it.", "Do it."]


def test_rows_are_those_of_ours(tmp_path: Path) -> None:
    """The identity is that of the canonical rows, and code of a mirror with other columns is renamed first."""
    rows = [{"instruction": "Print", "input": "1", "output": "print(1)"}]
    root = mirror(tmp_path, "codealpaca", train=rows, validation=rows)
    ours: Task = registry.load("tasks", "codealpacapy").value
    task = task_of("codealpacapy")
    assert task.source.identity(root) == ours.source.identity(root)
    (item,) = examples(task, "test", root)
    assert (item.example.body, item.example.target) == ("Print\n1", "print(1)")


def test_other_splits() -> None:
    task = task_of("mnli", test="validation_mismatched")
    source = task.source
    assert isinstance(source, Reworded)
    assert task.published_test == "validation_mismatched"
    assert source.with_test("validation_matched").absent("nowhere") == "the mirror has no mnli/validation.jsonl.gz"
    assert source.absent("nowhere") == "the mirror has no mnli/validation_mismatched.jsonl.gz"
    assert source.absent(None) is None
    with pytest.raises(UnknownName, match="validation_matched"):
        source.with_test("validation_matcheds")
    assert task_of("mrpc").published_test is None
    assert task_of("mmlu").source.trains_on_test("nowhere")
    assert not task_of("mrpc").source.trains_on_test("nowhere")


def test_a_mirror_is_filled_with_rows_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peftbench.fetch import _mirrored
    from peftbench.strict_yaml import yaml_text

    file = tmp_path / "lf_mnli.yaml"
    file.write_text(yaml_text(settings("mnli", test="validation_mismatched")), encoding="utf-8")
    suite = Suite.parse({"tasks": [str(file)], "models": ["tiny"], "methods": ["zero_shot"]}, "here")
    (wanted,) = _mirrored._data_sets(suite)
    assert (wanted.name, type(wanted.source)) == ("mnli", HubDataset)
    assert set(wanted.tests) == {"validation", "validation_mismatched"}


# ---- the file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows_of": "wcs"}, "Unknown data set 'wcs' in mine.yaml, rows_of. Did you mean 'wsc'?"),
        ({"prompt": "input"}, "Unknown column 'input' in mine.yaml, prompt. Did you mean 'inputs'?"),
        ({"query": "text"}, "Unknown column 'text' in mine.yaml, query."),
        ({"response": "label"}, "the answers of wsc are in 'targets', not 'label'. Write: response: targets"),
        ({"test": "valid"}, "Unknown split 'valid'"),
        ({"instructions": "x"}, "Unknown key 'instructions' in mine.yaml. Did you mean 'instruction'?"),
        ({"prompt": None}, "mine.yaml: prompt"),
    ],
)
def test_a_wrong_file_is_a_sentence(change: dict[str, Any], words: str) -> None:
    with pytest.raises((UnknownName, InvalidSpec)) as caught:
        read_reworded(settings("wsc") | change, "mine.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("repository", "subset", "name"),
    [
        ("nyu-mll/glue", "sst2", "sst2"),
        ("super_glue", "cb", "cb"),
        ("kinit/peft-factory", "wsc", "wsc"),
        ("kinit/peft-factory", "sst3", None),
        ("kinit/peft-factory", None, None),
        ("rbelanec/wsc", None, "wsc"),
        ("rbelanec/mine", None, None),
        ("super_glue", "wsc", None),
        ("neulab/conala", "curated", "conala"),
        ("kinit/peft-factory", "conala", "conala"),
        ("Abzu/CodeAlpacaPython", None, "codealpacapy"),
        ("nyu-mll/glue", "ax", None),
    ],
)
def test_repositories(repository: str, subset: str | None, name: str | None) -> None:
    assert published_in(repository, subset) == name


# ---- one question with all answers is as many rows of the script -----------------------------------------------------


def judged(name: str, rows: Sequence[Row], texts: Sequence[str]) -> Mapping[str, float]:
    task = task_of(name)
    found = items(task, enumerate(rows), "test")
    return summarise(task, judge(task, found, texts, "test"), cut=0, unfit=0).metrics


def flat_code_bleu(references: list[str], predictions: list[str]) -> Mapping[str, float]:
    rows = [code.statistics(said, (right,)) for right, said in zip(references, predictions, strict=True)]
    return dataclasses.asdict(code.scores([sum(column) for column in zip(*rows, strict=True)]))


RECORD = [
    {**TEXTS["record"][0], "answers": found, "idx": {"query": number}}
    for number, found in enumerate([["Oslo", "Old Oslo", "Oslo"], ["Bergen"], ["Ida Lind", "Lind"]])
]
APPS = [
    {"question": "q", "problem_id": number, "solutions": json.dumps(found)}
    for number, found in enumerate(
        [["def f(x):\n    return x + 1\n", "def f(y):\n    y += 1\n    return y"], [], ["print(1)"] * 3]
    )
]


@pytest.mark.parametrize("texts", [["Oslo", "Oslo", "Lind"], ["", "bergen.", "Ida"], ["the Old", "x", "Ida Lind"]])
def test_record_scores_as_if_each_answer_were_a_row(texts: list[str]) -> None:
    rows = [one.row(text) for row, text in zip(RECORD, texts, strict=True) for one in explode_record(row)]
    assert len(rows) == 6
    expected = script("record", rows)
    found = judged("record", RECORD, texts)
    assert {name: found[MARK + name] for name in expected} == pytest.approx(expected)
    once = judged("record", RECORD[1:], texts[1:])
    assert {name: once[name] for name in expected} == {name: once[MARK + name] for name in expected}


@pytest.mark.parametrize(
    "texts",
    [["def f(x):\n    return x + 1", "x = 2", "print(1)"], ["", "", ""], ["def f(y):\n    return y", "", "print(2)"]],
)
def test_apps_scores_as_if_each_solution_were_a_row(texts: list[str]) -> None:
    rows: list[PublishedRow] = [
        one.row(text) for row, text in zip(APPS, texts, strict=True) for one in explode_apps(row)
    ]
    assert len(rows) == 6
    expected = script("apps", rows, lambda right, said: {**_ZEROS, **flat_code_bleu(right, said)})
    assert judged("apps", APPS, texts)[MARK + "codebleu"] == pytest.approx(expected["codebleu"])


_ZEROS = dict.fromkeys(
    ("ngram_match_score", "weighted_ngram_match_score", "syntax_match_score", "dataflow_match_score"), 0.0
)
